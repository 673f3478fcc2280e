import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { retryWhileAway, type Sql } from "../../shared/store/database.ts";
import { removeRunner, renewRunner, runnerLeaseMs } from "../../shared/store/runners.ts";
import { withTimeLimit } from "../../shared/time-limit.ts";
import type { TransportName } from "../../shared/transports.ts";

export interface Runner {
  readonly id: string;
  readonly processingPath: TransportName;
  readonly queue: string;
}

/** Holds the one lease under which all attempts of this process run; ended by `stop`, after everything was recorded. */
export interface Heartbeat {
  stop(): Promise<void>;
}

/** Takes the lease, however long the database is away, then renews it at a third of its time. */
export async function startHeartbeat(
  sql: Sql,
  runner: Runner,
  { log, signal }: { log: Logger; signal: AbortSignal },
): Promise<Heartbeat> {
  await retryWhileAway(() => renewRunner(sql, runner), signal);
  const stopped = new AbortController();
  const beating = (async () => {
    for (let missed = 0;;) {
      await sleep(runnerLeaseMs / 3, undefined, { signal: stopped.signal }).catch(() => {});
      if (stopped.signal.aborted) return;
      // A connection that has fallen silent must not keep the next beat from taking another.
      await withTimeLimit(renewRunner(sql, runner), runnerLeaseMs / 3).then(() => (missed = 0), (error: unknown) => {
        if (missed++ === 0) log.warn({ err: error }, "lease not renewed");
      });
    }
  })();
  return {
    async stop() {
      stopped.abort();
      await beating;
      await removeRunner(sql, runner.id).catch((error: unknown) => log.warn({ err: error }, "lease not removed; it expires"));
    },
  };
}

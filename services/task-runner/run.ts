import type { Logger } from "pino";
import type { ClaimCheck } from "../../shared/claim-check/claim-check.ts";
import { createSlots } from "../../shared/slots.ts";
import type { Sql } from "../../shared/store/database.ts";
import { consume } from "../../shared/transport/consume.ts";
import type { Transports } from "../../shared/transport/send-batches.ts";
import type { Config } from "./config.ts";
import { createTasksHandler } from "./handle-tasks.ts";
import { startHeartbeat } from "./heartbeat.ts";
import type { TaskHandler } from "./task-handler.ts";

export interface TaskRunnerParts {
  readonly sql: Sql;
  /** New at each start of the process. */
  readonly id: string;
  readonly handlers: ReadonlyMap<string, TaskHandler>;
  readonly transports: Transports;
  readonly claimCheck: ClaimCheck;
  readonly log: Logger;
}

/** Takes tasks until the signal is aborted, then begins no more, finishes what it has within the grace, and releases the rest. */
export async function runTaskRunner(parts: TaskRunnerParts, config: Config, signal: AbortSignal): Promise<void> {
  const { sql, id, handlers, transports, claimCheck, log } = parts;
  const open = transports.get(config.transport);
  if (!open) throw new Error(`transport ${config.transport} is not open`);
  const deadline = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const startGrace = () => (timer = setTimeout(() => deadline.abort(new Error("the grace is over")), config.GRACE_MS));
  signal.addEventListener("abort", startGrace, { once: true });
  const runner = { id, processingPath: config.transport, queue: config.queues.join(",") };
  const heartbeat = await startHeartbeat(sql, runner, { log, signal });
  const tasks = createTasksHandler({
    db: sql,
    sender: id,
    transports,
    log,
    handlers,
    claimCheck,
    slots: createSlots(config.CONCURRENCY),
    stop: signal,
    deadline: deadline.signal,
  });
  const options = {
    concurrency: config.CONCURRENCY,
    prefetch: config.PREFETCH,
    receivers: config.RECEIVERS,
    graceMs: config.GRACE_MS + 3_000, // released tasks are still recorded, and their messages settled
    signal,
    log,
    probeDatabase: () => sql`select 1`,
  };
  await Promise.all(config.queues.map((queue) => consume(open.transport, queue, tasks.handle, options)));
  await tasks.whenSent();
  clearTimeout(timer);
  await heartbeat.stop();
}

import type { Logger } from "pino";
import type { ClaimCheck } from "../../shared/claim-check/claim-check.ts";
import { runRounds } from "../../shared/rounds.ts";
import type { Sql } from "../../shared/store/database.ts";
import { findUnjudged } from "../../shared/store/poison.ts";
import { consume } from "../../shared/transport/consume.ts";
import type { Transports } from "../../shared/transport/send-batches.ts";
import type { TransportName } from "../../shared/transports.ts";
import { runAlerts } from "./alerts.ts";
import type { Config } from "./config.ts";
import { createJudge } from "./judge.ts";
import { runExecutor } from "./reconcile/executor.ts";
import { redriveOnce } from "./redrive.ts";
import { createTakeIn } from "./take-in.ts";

export interface PoisonHandlerParts {
  readonly sql: Sql;
  /** New at each start of the process. */
  readonly id: string;
  readonly transports: Transports;
  /** Every queue of every transport whose dead letters are taken in. */
  readonly queueNames: ReadonlyMap<TransportName, readonly string[]>;
  readonly claimCheck: ClaimCheck;
  readonly log: Logger;
}

const judgeIntervalMs = 1_000;
const judgedAtOnce = 500;
const redriveIntervalMs = 500;

/**
 * Takes in dead letters, judges them and tells about them, executes reconciliation runs and redrives, until the signal is aborted;
 * resolves when everything is drained.
 */
export async function runPoisonHandler(parts: PoisonHandlerParts, config: Config, signal: AbortSignal): Promise<void> {
  const { sql, id, transports, queueNames, claimCheck, log } = parts;
  const judge = createJudge({ sql, id, graceMs: config.ATTEMPT_GRACE_MS, log });
  const takeIn = createTakeIn({ sql, claimCheck, judge });
  const options = {
    concurrency: config.CONCURRENCY,
    graceMs: config.GRACE_MS,
    signal,
    log,
    probeDatabase: () => sql`select 1`,
  };

  function listSources(transport: TransportName): readonly { queue: string; from: "queue" | "dead-letters" }[] {
    const queue = transport === "service_bus" ? config.AZURE_SERVICE_BUS_POISON_QUEUE : undefined;
    if (queue !== undefined) return [{ queue, from: "queue" }, { queue, from: "dead-letters" }]; // it has some of its own
    return (queueNames.get(transport) ?? []).map((name) => ({ queue: name, from: "dead-letters" }));
  }

  async function judgeTheRest(): Promise<boolean> {
    const poisonIds = await findUnjudged(sql, judgedAtOnce);
    await Promise.all(poisonIds.map((poisonId) => judge(poisonId)));
    return poisonIds.length === judgedAtOnce;
  }

  const { ALERT_WEBHOOK_URL: url, ALERT_WEBHOOK_SECRET: secret } = config;
  await Promise.all([
    runRounds(judgeTheRest, {
      intervalMs: judgeIntervalMs,
      signal,
      onError: (error) => log.warn({ err: error }, "can't judge what was recorded"),
    }),
    runRounds(() => redriveOnce({ sql, id, log }, signal), {
      intervalMs: redriveIntervalMs,
      signal,
      onError: (error) => log.warn({ err: error }, "can't look for redrives"),
    }),
    runExecutor(
      {
        ...{ sql, id, transports, queueNames, judge, log },
        poisonQueue: config.AZURE_SERVICE_BUS_POISON_QUEUE,
        graceMs: config.ATTEMPT_GRACE_MS,
        pauseMs: config.RECONCILE_PAUSE_MS,
      },
      { intervalMs: config.RECONCILE_INTERVAL_MS },
      signal,
    ),
    runAlerts({ sql, log, webhook: url !== undefined && secret !== undefined ? { url, secret } : null }, signal),
    ...[...transports.values()].flatMap(({ transport }) =>
      listSources(transport.name).map(({ queue, from }) =>
        consume(transport, queue, takeIn({ transport: transport.name, queue }), { ...options, from })
      )
    ),
  ]);
}

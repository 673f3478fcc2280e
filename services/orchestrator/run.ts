import { type ClaimCheck } from "../../shared/claim-check/claim-check.ts";
import type { JobCatalog } from "../../shared/jobs/catalog.ts";
import type { Sql } from "../../shared/store/database.ts";
import type { Logger } from "pino";
import { consume } from "../../shared/transport/consume.ts";
import type { Transports } from "../../shared/transport/send-batches.ts";
import type { Config } from "./config.ts";
import { createJobHandler, createStageHandler } from "./handle-message.ts";
import type { Orchestrator } from "./orchestrator.ts";
import { startRelay } from "./relay.ts";
import { createSweep } from "./sweep.ts";

export interface OrchestratorParts {
  readonly sql: Sql;
  readonly id: string;
  readonly jobs: JobCatalog;
  readonly transports: Transports;
  readonly claimCheck: ClaimCheck;
  readonly log: Logger;
}

/** Consumes, relays and sweeps until the signal is aborted; resolves when everything is drained. */
export async function runOrchestrator(parts: OrchestratorParts, config: Config, signal: AbortSignal): Promise<void> {
  const { sql, log, transports } = parts;
  const relay = startRelay(parts, {
    windows: { bullmq: config.SEND_WINDOW, service_bus: config.SEND_WINDOW, storage_queue: config.SEND_WINDOW_STORAGE_QUEUE },
    idleMs: config.RELAY_IDLE_MS,
    signal,
  });
  const orchestrator: Orchestrator = { ...parts, wakeRelay: relay.wake };
  const options = { concurrency: config.CONCURRENCY, graceMs: config.GRACE_MS, signal, log, probeDatabase: () => sql`select 1` };
  await Promise.all([
    relay.done,
    createSweep(orchestrator, { intervalMs: config.SWEEP_INTERVAL_MS, graceMs: config.ATTEMPT_GRACE_MS }).run(signal),
    ...[...transports.values()].flatMap(({ transport, queues }) => [
      consume(transport, queues.jobs, createJobHandler(orchestrator), options),
      consume(transport, queues.stages, createStageHandler(orchestrator), options),
    ]),
  ]);
}

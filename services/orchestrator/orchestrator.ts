import type { Logger } from "pino";
import type { ClaimCheck } from "../../shared/claim-check/claim-check.ts";
import type { JobCatalog } from "../../shared/jobs/catalog.ts";
import type { StageDefinition } from "../../shared/jobs/define-job.ts";
import type { Sql } from "../../shared/store/database.ts";
import type { StageSeed } from "../../shared/store/stages.ts";
import type { Transports } from "../../shared/transport/send-batches.ts";

/** What everything in this service works with. */
export interface Orchestrator {
  readonly sql: Sql;
  /** New at each start of a process; sender of batches, and first part of the owners of stages. */
  readonly id: string;
  readonly jobs: JobCatalog;
  readonly transports: Transports;
  readonly claimCheck: ClaimCheck;
  readonly log: Logger;
  /** Tells the relay that there is something to send. */
  wakeRelay(): void;
}

/** `parameters` are the job's, as its row has them: checked when the job was submitted. */
export function createStageSeed(number: number, stage: StageDefinition<unknown>, parameters: unknown): StageSeed {
  const { tasksPerMessage } = stage;
  return {
    number,
    name: stage.name,
    taskType: stage.task.type,
    queue: stage.queue ?? "tasks",
    tasksPerMessage: (typeof tasksPerMessage === "function" ? tasksPerMessage(parameters) : tasksPerMessage) ?? 1,
    timeoutMs: stage.task.timeoutMs,
    deadlineMs: stage.deadlineMs ?? null,
  };
}

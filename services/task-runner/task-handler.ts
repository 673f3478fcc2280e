import type { Logger } from "pino";
import type { ClaimCheck } from "../../shared/claim-check/claim-check.ts";
import type { TaskDefinition } from "../../shared/jobs/define-task.ts";

export interface TaskContext {
  readonly jobId: string;
  readonly taskId: number;
  readonly stage: number;
  readonly index: number;
  /** 1 on the first claim. */
  readonly attempt: number;
  /** Unique to this attempt: keys of what it stores outside the database contain it. */
  readonly claimId: string;
  /** Aborted at the time-out, when the task was stopped, and when the process must go. */
  readonly signal: AbortSignal;
  readonly claimCheck: ClaimCheck;
  readonly log: Logger;
}

/** The code of one task type. Throws PermanentError where no retry can succeed; anything else it throws is retried. */
export interface TaskHandler {
  readonly task: TaskDefinition;
  run(params: unknown, context: TaskContext): Promise<unknown>;
}

export function defineHandler<Params, Result>(
  task: TaskDefinition<Params, Result>,
  run: (params: Params, context: TaskContext) => Promise<Result>,
): TaskHandler {
  return { task: task as TaskDefinition, run: run as TaskHandler["run"] };
}

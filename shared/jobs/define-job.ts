import type * as v from "valibot";
import type { ClaimCheck } from "../claim-check/claim-check.ts";
import type { JsonObject } from "../contracts/parse.ts";
import type { Decision, StageResult, TaskOutcome } from "../contracts/stage-result.ts";
import type { TaskDefinition } from "./define-task.ts";

/** An ended stage: its result, and its tasks' outcomes as a stream in the order of their indexes. */
export interface EndedStage {
  readonly result: StageResult;
  outcomes(): AsyncIterable<TaskOutcome>;
}

export interface StageContext<JobParams> {
  readonly jobId: string;
  readonly parameters: JobParams;
  /** The stages before this one, first to last. */
  readonly earlier: readonly EndedStage[];
  readonly claimCheck: ClaimCheck;
  readonly signal: AbortSignal;
}

export interface ReduceContext<JobParams> extends StageContext<JobParams> {
  readonly counts: { readonly planned: number; readonly completed: number; readonly failed: number };
  /** Every outcome of this stage once, in the order of the indexes; may be read once. */
  outcomes(): AsyncIterable<TaskOutcome>;
}

export interface StageDefinition<JobParams> {
  readonly name: string;
  readonly task: TaskDefinition;
  /**
   * The parameters of the stage's tasks, in the order of their indexes. It may stream a million; the same inputs must give the
   * same tasks in the same order, since it is run again from the start after a crash.
   */
  plan(context: StageContext<JobParams>): AsyncIterable<unknown> | Iterable<unknown>;
  /**
   * How many of its tasks may fail without failing the job, and how many must succeed (`quorum`). Default: none may fail. What is
   * given must all hold.
   */
  readonly tolerate?: { readonly count?: number; readonly percent?: number; readonly quorum?: number };
  /** From the moment the stage begins: what of it is open then has failed. Default: none. */
  readonly deadlineMs?: number;
  /** Folds the outcomes into the metadata of the StageResult. Default: `{}`. */
  reduce?(context: ReduceContext<JobParams>): Promise<JsonObject>;
  /**
   * Default: advance, or complete the job after the last stage. When too many tasks failed, only `fail_job` and `retry_stage` are
   * heeded; anything else fails the job with the error of the first of them.
   */
  decide?(result: Omit<StageResult, "orchestration">, context: StageContext<JobParams>): Decision;
  /** At most 100. Default, and where the parameters say nothing: 1. */
  readonly tasksPerMessage?: number | ((parameters: JobParams) => number | undefined);
  /** Default: the tasks queue of the job's transport. */
  readonly queue?: string;
}

/** A job type: pure, known to api and orchestrator; adding one touches no engine file. */
export interface JobDefinition<JobParams = unknown> {
  readonly type: string;
  readonly description: string;
  readonly params: v.ObjectSchema<v.ObjectEntries, undefined> & v.GenericSchema<unknown, JobParams>;
  readonly stages: readonly [StageDefinition<JobParams>, ...StageDefinition<JobParams>[]];
  /**
   * What of the parameters makes two submissions the same job, whatever transport they name. With other parameters otherwise, the
   * second one is refused. Default: all of them, and the transport if it was named.
   */
  identity?(parameters: JobParams): JsonObject;
  /** How many tasks a job of these parameters will have, where that can be told beforehand; routing rules ask for it. */
  estimateTasks?(parameters: JobParams): number;
  /** The job's result, from the results of its stages. Default: the metadata of the last one. */
  finalize?(context: StageContext<JobParams>): JsonObject | Promise<JsonObject>;
}

export function defineJob<Entries extends v.ObjectEntries>(definition: {
  type: string;
  description: string;
  params: v.ObjectSchema<Entries, undefined>;
  stages: readonly [
    StageDefinition<v.InferOutput<v.ObjectSchema<Entries, undefined>>>,
    ...StageDefinition<v.InferOutput<v.ObjectSchema<Entries, undefined>>>[],
  ];
  identity?(parameters: v.InferOutput<v.ObjectSchema<Entries, undefined>>): JsonObject;
  estimateTasks?(parameters: v.InferOutput<v.ObjectSchema<Entries, undefined>>): number;
  finalize?(context: StageContext<v.InferOutput<v.ObjectSchema<Entries, undefined>>>): JsonObject | Promise<JsonObject>;
}): JobDefinition {
  return definition as unknown as JobDefinition;
}

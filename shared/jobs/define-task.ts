import type * as v from "valibot";

export interface RetryPolicy {
  /** Attempts that may end in an error before the task has failed. */
  readonly maxFailures: number;
  /** Before the second attempt; doubles with each further failure, with jitter of ±50 %. */
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
}

/** What a task takes and gives. The code that runs it is in the task-runner, under the same type. */
export interface TaskDefinition<Params = unknown, Result = unknown> {
  readonly type: string;
  readonly params: v.GenericSchema<unknown, Params>;
  readonly result: v.GenericSchema<unknown, Result>;
  readonly retry: RetryPolicy;
  /** Of one attempt. */
  readonly timeoutMs: number;
}

const defaultRetry: RetryPolicy = { maxFailures: 5, backoffMs: 500, maxBackoffMs: 60_000 };

export function defineTask<Params, Result>(definition: {
  type: string;
  params: v.GenericSchema<unknown, Params>;
  result: v.GenericSchema<unknown, Result>;
  retry?: Partial<RetryPolicy>;
  timeoutMs?: number;
}): TaskDefinition<Params, Result> {
  return { ...definition, retry: { ...defaultRetry, ...definition.retry }, timeoutMs: definition.timeoutMs ?? 300_000 };
}

export type ParamsOf<Task> = Task extends TaskDefinition<infer Params, infer _> ? Params : never;
export type ResultOf<Task> = Task extends TaskDefinition<infer _, infer Result> ? Result : never;

import type { Logger } from "pino";
import type { ClaimCheck } from "../../shared/claim-check/claim-check.ts";
import { isStorableJson, JsonObject, parse } from "../../shared/contracts/parse.ts";
import { describeError, PermanentError } from "../../shared/errors.ts";
import type { RetryPolicy } from "../../shared/jobs/define-task.ts";
import type { AttemptEnd, ClaimedTask } from "../../shared/store/tasks.ts";
import type { TaskHandler } from "./task-handler.ts";

export interface AttemptOptions {
  readonly handlers: ReadonlyMap<string, TaskHandler>;
  readonly claimCheck: ClaimCheck;
  /** Aborted when the process must go: what isn't done by then is released. */
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/** Larger results go by claim check, up to `maxResultBytes`. */
const maxInlineResultBytes = 65_536;
const maxResultBytes = 8_388_608;

/** How long a task waits for a process that knows its type: about six minutes in all, then it has failed. */
const unknownTypeRetry: RetryPolicy = { maxFailures: 10, backoffMs: 1_000, maxBackoffMs: 60_000 };

/** Runs one claimed task to the end of its attempt, within its time-out. Never rejects: whatever happens is how it ended. */
export async function runAttempt(task: ClaimedTask, options: AttemptOptions): Promise<AttemptEnd> {
  const { taskId, claimId } = task;
  const handler = options.handlers.get(task.taskType);
  if (!handler) {
    const error = { code: "unknown-type", message: `this runner has no task type ${task.taskType}` };
    return { taskId, claimId, outcome: "deferred", error, retry: unknownTypeRetry };
  }
  const timeout = new AbortController();
  const timer = setTimeout(
    () => timeout.abort(new Error(`timed out after ${task.timeoutMs} ms`)),
    task.timeoutMs,
  );
  const signal = AbortSignal.any([timeout.signal, options.signal]);
  try {
    const value = await untilAborted(signal, () => run(handler, task, { ...options, signal }));
    return { taskId, claimId, outcome: "completed", ...await storeResult(handler, task, value, options.claimCheck) };
  } catch (error) {
    if (options.signal.aborted && !timeout.signal.aborted) return { taskId, claimId, outcome: "released" };
    const record = describeError(error, timeout.signal.aborted ? "timed-out" : undefined);
    return {
      taskId,
      claimId,
      outcome: "failed",
      error: record,
      permanent: error instanceof PermanentError,
      retry: handler.task.retry,
    };
  } finally {
    clearTimeout(timer);
  }
}

async function run(handler: TaskHandler, task: ClaimedTask, { claimCheck, signal, log }: AttemptOptions): Promise<unknown> {
  const parameters = parse(handler.task.params, task.parameters, "contract-violation");
  const { jobId, taskId, index, attempt, claimId, stageNumber } = task;
  return await handler.run(parameters, { jobId, taskId, stage: stageNumber, index, attempt, claimId, signal, claimCheck, log });
}

/** A handler that doesn't heed its signal is left behind: its attempt has ended, and the fence keeps out what it still does. */
async function untilAborted<Result>(signal: AbortSignal, run: () => Promise<Result>): Promise<Result> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([run(), aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

async function storeResult(
  handler: TaskHandler,
  { jobId, stageNumber, index, claimId }: ClaimedTask,
  value: unknown,
  claimCheck: ClaimCheck,
): Promise<{ result: JsonObject } | { resultRef: string }> {
  const result = parse(JsonObject, parse(handler.task.result, value, "contract-violation"), "contract-violation");
  const json = JSON.stringify(result);
  if (!isStorableJson(json)) {
    throw new PermanentError("contract-violation", "the result contains U+0000 or half a surrogate pair");
  }
  const bytes = Buffer.byteLength(json);
  if (bytes > maxResultBytes) {
    throw new PermanentError("contract-violation", `the result has ${bytes} bytes, more than ${maxResultBytes}`);
  }
  if (bytes <= maxInlineResultBytes) return { result };
  // The claim id in the key keeps a zombie from replacing the winner's (protocol, rule 5).
  const key = `results/${jobId}/${stageNumber}/${index}/${claimId}`;
  return { resultRef: await claimCheck.writeLines(key, [result]) };
}

/** No answer came in time; the work itself may still go on. */
export class TimeLimitError extends Error {
  override readonly name = "TimeLimitError";
}

/** The promise's outcome, or a rejection with TimeLimitError after `ms`. The work itself goes on: nothing here can stop it. */
export async function withTimeLimit<Result>(promise: Promise<Result>, ms: number): Promise<Result> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new TimeLimitError(`no answer within ${ms} ms`)), ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The same question asked while it is being answered waits for that answer: what hangs, hangs once. */
export function shareRunning<Result>(run: () => Promise<Result>): () => Promise<Result> {
  let running: Promise<Result> | undefined;
  return () => running ??= run().finally(() => running = undefined);
}

import { setTimeout as sleep } from "node:timers/promises";

/** The promise's outcome, or a rejection after `ms`. The work itself goes on: nothing here can stop it. */
export async function withTimeLimit<Result>(promise: Promise<Result>, ms: number): Promise<Result> {
  const timer = new AbortController();
  try {
    return await Promise.race([
      promise,
      sleep(ms, undefined, { signal: timer.signal }).then(() => {
        throw new Error(`no answer within ${ms} ms`);
      }),
    ]);
  } finally {
    timer.abort();
  }
}

/** The same question asked while it is being answered waits for that answer: what hangs, hangs once. */
export function shareRunning<Result>(run: () => Promise<Result>): () => Promise<Result> {
  let running: Promise<Result> | undefined;
  return () => running ??= run().finally(() => running = undefined);
}

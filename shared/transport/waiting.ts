/** The longest a receive waits for messages. */
export const receiveWaitMs = 4_000;

/** Resolves after `ms`, or as soon as the signal aborts. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await settledOrAborted(promise, signal);
  clearTimeout(timer);
}

/** Resolves when the promise settles, either way, or as soon as the signal aborts. */
export async function settledOrAborted(promise: Promise<unknown>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise: done, resolve } = Promise.withResolvers<void>();
  const end = () => resolve();
  signal.addEventListener("abort", end, { once: true });
  promise.then(end, end);
  await done;
  signal.removeEventListener("abort", end);
}

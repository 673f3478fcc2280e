import { setTimeout as sleep } from "node:timers/promises";

export interface RoundOptions {
  /** Between two rounds, give or take a fifth, so that processes don't move in step. Milliseconds. */
  readonly intervalMs: number;
  readonly signal: AbortSignal;
  /** Told what a round was rejected with; the next one comes all the same. */
  readonly onError: (error: unknown) => void;
}

/** Runs round after round until the signal is aborted; one that resolves with `true` has more to do, and is followed at once. */
export async function runRounds(
  round: () => Promise<boolean | void>,
  { intervalMs, signal, onError }: RoundOptions,
): Promise<void> {
  while (!signal.aborted) {
    try {
      if (await round() === true) continue;
    } catch (error) {
      onError(error);
    }
    await sleep(intervalMs * (0.8 + 0.4 * Math.random()), undefined, { signal }).catch(() => {});
  }
}

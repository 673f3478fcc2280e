import { pause, settledOrAborted } from "./waiting.ts";

const shortestMs = 50;
const longestMs = 5_000;

/**
 * When to look again into a queue that can only be polled. One per queue and process: while messages come, every receive looks at
 * once; after an empty look, one receive at a time looks for all, after a delay that doubles from 50 ms to 5 s (with jitter) and
 * falls back as soon as a message is found or `wake` is called. So an idle process costs one request in five seconds per queue,
 * however many receives it runs.
 */
export class IdleDelay {
  #delayMs = shortestMs;
  #quietUntil = 0;
  #probe: Promise<void> | undefined;
  #woken = new AbortController();

  /** Calls `look` until it finds something, or returns nothing as soon as the signal aborts. A look under way is always awaited. */
  async poll<Found>(look: () => Promise<readonly Found[]>, signal: AbortSignal): Promise<readonly Found[]> {
    while (!signal.aborted) {
      if (this.#probe) {
        await settledOrAborted(this.#probe, signal);
        continue;
      }
      const found = this.#quietUntil === 0 ? await look() : await this.#lookForAll(look, signal);
      if (found.length > 0) {
        this.wake();
        return found;
      }
      if (this.#quietUntil === 0) this.#waitLonger(); // of the receives that found nothing at the same time, the first one
    }
    return [];
  }

  /** There is a message now, as far as this process knows. */
  wake(): void {
    this.#delayMs = shortestMs;
    this.#quietUntil = 0;
    this.#woken.abort();
    this.#woken = new AbortController();
  }

  async #lookForAll<Found>(look: () => Promise<readonly Found[]>, signal: AbortSignal): Promise<readonly Found[]> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#probe = promise;
    try {
      await pause(Math.max(0, this.#quietUntil - Date.now()), AbortSignal.any([signal, this.#woken.signal]));
      if (signal.aborted) return [];
      const found = await look();
      if (found.length === 0) this.#waitLonger();
      return found;
    } finally {
      this.#probe = undefined;
      resolve();
    }
  }

  #waitLonger(): void {
    this.#quietUntil = Date.now() + this.#delayMs * (0.5 + Math.random() / 2);
    this.#delayMs = Math.min(this.#delayMs * 2, longestMs);
  }
}

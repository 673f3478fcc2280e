/** A sleep that can be ended early by anybody who has something to do for the sleeper. */
export interface Alarm {
  /** Wakes whoever sleeps; who doesn't yet sleep will not fall asleep the next time. */
  wake(): void;
  /** Sleeps until woken, aborted, or `maxMs` have passed. Never rejects. */
  sleep(maxMs: number, signal: AbortSignal): Promise<void>;
}

/** An alarm for one sleeper. */
export function createAlarm(): Alarm {
  let rung = false;
  let end: (() => void) | null = null;
  return {
    wake() {
      rung = true;
      end?.();
    },
    async sleep(maxMs, signal) {
      if (!rung && !signal.aborted) {
        const { promise, resolve } = Promise.withResolvers<void>();
        const timer = setTimeout(resolve, maxMs);
        const onAbort = () => resolve();
        end = onAbort;
        signal.addEventListener("abort", onAbort, { once: true });
        await promise;
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
        end = null;
      }
      rung = false;
    },
  };
}

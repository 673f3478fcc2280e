/** Room for so many at once. Who came first is served first. */
export interface Slots {
  /** Waits for at least one, takes up to `max`; 0 if the signal was aborted first. */
  take(max: number, signal: AbortSignal): Promise<number>;
  give(count: number): void;
}

export function createSlots(size: number): Slots {
  interface Waiting {
    readonly max: number;
    readonly resolve: (taken: number) => void;
  }
  let free = size;
  const queue = new Set<Waiting>();

  function takeNow(max: number): number {
    const taken = Math.min(max, free);
    free -= taken;
    return taken;
  }

  return {
    async take(max, signal) {
      if (signal.aborted) return 0;
      if (free > 0 && queue.size === 0) return takeNow(max);
      const { promise, resolve } = Promise.withResolvers<number>();
      const waiting = { max, resolve };
      const leave = () => {
        queue.delete(waiting);
        resolve(0);
      };
      queue.add(waiting);
      signal.addEventListener("abort", leave, { once: true });
      const taken = await promise;
      signal.removeEventListener("abort", leave);
      return taken;
    },
    give(count) {
      free += count;
      for (const waiting of queue) {
        if (free === 0) return;
        queue.delete(waiting);
        waiting.resolve(takeNow(waiting.max));
      }
    },
  };
}

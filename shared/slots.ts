/** Room for so many at once. Who came first is served first. */
export interface Slots {
  /** Waits for at least one, takes up to `max`; 0 if the signal was aborted first. */
  take(max: number, signal: AbortSignal): Promise<number>;
  /** Waits for all there are, which nobody who comes later gets ahead of; 0 if the signal was aborted first. */
  takeAll(signal: AbortSignal): Promise<number>;
  give(count: number): void;
}

export function createSlots(size: number): Slots {
  interface Waiting {
    readonly min: number;
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

  async function takeBetween(min: number, max: number, signal: AbortSignal): Promise<number> {
    if (signal.aborted) return 0;
    if (free >= min && queue.size === 0) return takeNow(max);
    const { promise, resolve } = Promise.withResolvers<number>();
    const waiting = { min, max, resolve };
    const leave = () => {
      queue.delete(waiting);
      resolve(0);
      serve(); // whoever came behind it may be content with less
    };
    queue.add(waiting);
    signal.addEventListener("abort", leave, { once: true });
    const taken = await promise;
    signal.removeEventListener("abort", leave);
    return taken;
  }

  function serve(): void {
    for (const waiting of queue) {
      if (free < waiting.min) return;
      queue.delete(waiting);
      waiting.resolve(takeNow(waiting.max));
    }
  }

  return {
    take: (max, signal) => takeBetween(1, max, signal),
    takeAll: (signal) => takeBetween(size, size, signal),
    give(count) {
      free += count;
      serve();
    },
  };
}

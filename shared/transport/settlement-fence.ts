/** Settles in turns that the AMQP library can't confuse. `complete`: whether it is the outcome that most messages have. */
export type SettlementFence = <Result>(outcome: "complete" | "other", settle: () => Promise<Result>) => Promise<Result>;

/**
 * rhea (all versions up to 3.0.5) writes what was settled in one tick as ranges of deliveries, and doesn't compare the outcomes of
 * the first two neighbours: an abandon next to a complete becomes a complete, its message is deleted, and both promises fulfil. So
 * on one link only completes share a turn of the event loop; every other outcome has one of its own.
 */
export function createSettlementFence(): SettlementFence {
  const waiting: { readonly outcome: "complete" | "other"; readonly start: () => void }[] = [];
  let running = false;

  async function run(): Promise<void> {
    while (waiting.length > 0) {
      const first = waiting.shift();
      first?.start();
      while (first?.outcome === "complete" && waiting[0]?.outcome === "complete") waiting.shift()?.start();
      await new Promise((resolve) => setImmediate(resolve)); // by then their frames are written
    }
    running = false;
  }

  return <Result>(outcome: "complete" | "other", settle: () => Promise<Result>) => {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    waiting.push({ outcome, start: () => settle().then(resolve, reject) });
    if (!running) {
      running = true;
      queueMicrotask(run); // those that are asked for together go out together
    }
    return promise;
  };
}

import type { Clock } from "./clock.ts";

export interface ManualClock extends Clock {
  /** Moves on by so much, and makes every call that has become due, in the order of time. */
  advance(ms: number): void;
}

/** Stands still until it is moved. Begins at the present, since tokens and SDKs know no other. */
export function createManualClock(start = Date.now()): ManualClock {
  let now = start;
  const calls = new Set<{ time: number; callback: () => void }>();
  const firstDue = (until: number) => {
    let first: { time: number; callback: () => void } | undefined;
    for (const call of calls) if (call.time <= until && (!first || call.time < first.time)) first = call;
    return first;
  };
  return {
    now: () => now,
    callAt(time, callback) {
      const call = { time, callback };
      calls.add(call);
      return () => void calls.delete(call);
    },
    advance(ms) {
      const until = now + ms;
      for (let call = firstDue(until); call; call = firstDue(until)) {
        calls.delete(call);
        now = Math.max(now, call.time);
        call.callback();
      }
      now = until;
    },
  };
}

import type { Clock } from "./clock.ts";

/** One timer for everything that will be due: the earliest time counts. */
export interface Alarm {
  /** Something is due then. */
  set(time: number): void;
  stop(): void;
}

/** `due` does what is due and returns when something is next. */
export function createAlarm(clock: Clock, due: (now: number) => number): Alarm {
  let setFor = Infinity;
  let cancel = () => {};

  function set(time: number): void {
    if (time >= setFor) return;
    cancel();
    setFor = time;
    cancel = clock.callAt(time, ring);
  }

  function ring(): void {
    setFor = Infinity;
    set(due(clock.now()));
  }

  return {
    set,
    stop() {
      cancel();
      setFor = -Infinity;
    },
  };
}

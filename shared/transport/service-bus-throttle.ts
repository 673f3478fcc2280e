import { pause } from "./waiting.ts";

/** A pause that all calls of a process make when the namespace says that it is busy: Azure asks for two seconds. */
export interface Throttle {
  /** Resolves when nothing has to be waited for, or the signal is aborted. */
  pass(signal: AbortSignal): Promise<void>;
  /** The namespace is busy. */
  slowDown(): void;
}

const busyMs = 2_000;

export function createThrottle(): Throttle {
  let until = 0;
  return {
    async pass(signal) {
      for (let left = until - Date.now(); left > 0 && !signal.aborted; left = until - Date.now()) await pause(left, signal);
    },
    slowDown() {
      until = Math.max(until, Date.now() + busyMs * (1 + Math.random() / 2));
    },
  };
}

import { AsyncLocalStorage } from "node:async_hooks";
import { syncBuiltinESMExports } from "node:module";
import timersPromises from "node:timers/promises";

/** What a simulated process finds in place of the machine's clock and chance. */
export interface Machine {
  now(): number;
  random(): number;
  /** Calls back after so many milliseconds, once or again and again, until the returned function is called. */
  startTimer(callback: () => void, ms: number, repeats: boolean): () => void;
}

const machines = new AsyncLocalStorage<Machine>();
const realImmediate = globalThis.setImmediate;
let immediates = 0;

/** Runs engine code on a simulated machine: its timers, `performance.now()` and `Math.random()` are the machine's. */
export function runOn<Result>(machine: Machine, run: () => Result): Result {
  return machines.run(machine, run);
}

/** Resolves when everything that can go on without a timer, the database or the broker has done so. */
export async function whenQuiet(): Promise<void> {
  do await new Promise((resolve) => realImmediate(resolve)); while (immediates > 0);
}

/** A virtual timer, as much of NodeJS.Timeout as engine code and its libraries use. */
class VirtualTimeout {
  readonly cancel: () => void;
  constructor(cancel: () => void) {
    this.cancel = cancel;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
  hasRef(): boolean {
    return true;
  }
  refresh(): this {
    throw new Error("the simulation's timers can't be refreshed");
  }
  close(): this {
    this.cancel();
    return this;
  }
  [Symbol.dispose](): void {
    this.cancel();
  }
}

/**
 * Replaces the globals of time and chance by ones that ask which simulated machine the caller runs on; callers outside of any
 * (the test runner, the database client) get the real ones. Returns how to undo it.
 */
export function installVirtualTime(): () => void {
  const real = {
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
    setInterval: globalThis.setInterval,
    clearInterval: globalThis.clearInterval,
    setImmediate: globalThis.setImmediate,
    sleep: timersPromises.setTimeout,
    timeoutSignal: AbortSignal.timeout,
    performanceNow: performance.now.bind(performance),
    random: Math.random,
  };

  function start(
    fallback: (callback: (...values: unknown[]) => void, ms?: number, ...values: unknown[]) => unknown,
    repeats: boolean,
  ) {
    return (callback: (...values: unknown[]) => void, ms = 1, ...values: unknown[]): unknown => {
      const machine = machines.getStore();
      if (!machine) return fallback(callback, ms, ...values);
      return new VirtualTimeout(machine.startTimer(() => callback(...values), Math.max(1, ms), repeats));
    };
  }
  function stop(fallback: (timer: never) => void) {
    return (timer: unknown): void => {
      if (timer instanceof VirtualTimeout) timer.cancel();
      else fallback(timer as never);
    };
  }

  Object.assign(globalThis, {
    setTimeout: start(real.setTimeout as never, false),
    setInterval: start(real.setInterval as never, true),
    clearTimeout: stop(real.clearTimeout),
    clearInterval: stop(real.clearInterval),
    setImmediate(callback: (...values: unknown[]) => void, ...values: unknown[]) {
      if (!machines.getStore()) return real.setImmediate(callback, ...values);
      immediates++;
      return real.setImmediate(() => {
        immediates--;
        callback(...values);
      });
    },
  });
  timersPromises.setTimeout = (async <Value>(ms?: number, value?: Value, options?: { signal?: AbortSignal }) => {
    const machine = machines.getStore();
    if (!machine) return await real.sleep(ms, value, options);
    options?.signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<Value | undefined>();
    const cancel = machine.startTimer(() => resolve(value), Math.max(1, ms ?? 1), false);
    const onAbort = () => {
      cancel();
      reject(options?.signal?.reason);
    };
    options?.signal?.addEventListener("abort", onAbort, { once: true });
    return await promise.finally(() => options?.signal?.removeEventListener("abort", onAbort));
  }) as typeof timersPromises.setTimeout;
  AbortSignal.timeout = (ms) => {
    const machine = machines.getStore();
    if (!machine) return real.timeoutSignal.call(AbortSignal, ms);
    const controller = new AbortController();
    machine.startTimer(() => controller.abort(new DOMException("The operation timed out.", "TimeoutError")), ms, false);
    return controller.signal;
  };
  performance.now = () => machines.getStore()?.now() ?? real.performanceNow();
  Math.random = () => machines.getStore()?.random() ?? real.random();
  syncBuiltinESMExports();

  return () => {
    const { setTimeout, clearTimeout, setInterval, clearInterval, setImmediate } = real;
    Object.assign(globalThis, { setTimeout, clearTimeout, setInterval, clearInterval, setImmediate });
    timersPromises.setTimeout = real.sleep;
    AbortSignal.timeout = real.timeoutSignal;
    performance.now = real.performanceNow;
    Math.random = real.random;
    syncBuiltinESMExports();
  };
}

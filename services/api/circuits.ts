import { BrokenCircuitError, circuitBreaker, CircuitState, ConsecutiveBreaker, handleWhen } from "cockatiel";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { PermanentError } from "../../shared/errors.ts";
import { withTimeLimit } from "../../shared/time-limit.ts";
import type { Transports } from "../../shared/transport/send-batches.ts";
import type { TransportName } from "../../shared/transports.ts";

/** The transports of this process, with what it knows of their brokers. */
export interface Circuits {
  /** Those that were given; a send through them is refused at once while the broker is away. */
  readonly transports: Transports;
  /** Too many sends in a row have failed, and none of the looks since has found the broker back. */
  isAway(transport: TransportName): boolean;
}

export interface CircuitOptions {
  readonly log: Logger;
  /** Ends the looks for brokers that are away. */
  readonly signal: AbortSignal;
  /** Failed sends in a row after which a broker counts as away. Default: 3. */
  readonly breakAfter?: number;
  /** Pause between two looks. Default: 5,000. */
  readonly lookAgainMs?: number;
  /** A send that takes longer has failed, as far as this is concerned. Default: 5,000. */
  readonly sendMs?: number;
}

/** One circuit breaker per transport. While one is open no job is spent on finding out: a look at the queue's counts is. */
export function createCircuits(transports: Transports, options: CircuitOptions): Circuits {
  const { log, signal, breakAfter = 3, lookAgainMs = 5_000, sendMs = 5_000 } = options;
  const away = new Map<TransportName, () => boolean>();

  const guarded = [...transports].map(([name, { transport, queues }]) => {
    const breaker = circuitBreaker(
      handleWhen((error) => !(error instanceof PermanentError)), // the message is at fault, not the broker
      { breaker: new ConsecutiveBreaker(breakAfter), halfOpenAfter: 0 },
    );
    away.set(name, () => breaker.state === CircuitState.Open || breaker.state === CircuitState.HalfOpen);
    breaker.onBreak(() => {
      log.warn({ transport: name }, "broker is away");
    });
    breaker.onReset(() => log.info({ transport: name }, "broker is back"));

    let looking = false;
    async function look(): Promise<void> {
      if (looking) return;
      looking = true;
      while (breaker.state !== CircuitState.Closed && !signal.aborted) {
        await sleep(lookAgainMs, undefined, { signal, ref: false }).catch(() => {});
        if (signal.aborted) break;
        await breaker.execute(() => withTimeLimit(transport.counts(queues.jobs), sendMs)).catch(() => {});
      }
      looking = false;
    }

    const send: typeof transport.send = async (queue, messages) => {
      if (breaker.state !== CircuitState.Closed) throw new BrokenCircuitError(`the broker of ${name} is away`);
      try {
        await breaker.execute(() => withTimeLimit(transport.send(queue, messages), sendMs));
      } finally {
        if (breaker.state !== CircuitState.Closed) void look();
      }
    };
    return [name, { transport: { ...transport, send }, queues }] as const;
  });

  return { transports: new Map(guarded), isAway: (name) => away.get(name)?.() ?? true };
}

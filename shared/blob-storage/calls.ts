import { RestError } from "@azure/storage-blob";
import { BrokenCircuitError, circuitBreaker, CircuitState, ConsecutiveBreaker, handleWhen } from "cockatiel";
import { setTimeout as sleep } from "node:timers/promises";
import { PermanentError } from "../errors.ts";

export interface StorageCallOptions {
  /** Of one try, from the request to the last byte of its answer. */
  readonly tryTimeoutMs: number;
  readonly maxTries: number;
  /** Before the second try; doubles with each further one, with jitter of ±50 %. */
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  /** A longer `Retry-After` isn't waited for: the call fails, and the task comes back later. */
  readonly maxRetryAfterMs: number;
  /** Failed tries in a row, over all callers, that open the circuit. */
  readonly breakAfter: number;
  readonly halfOpenAfterMs: number;
}

const defaults: StorageCallOptions = {
  tryTimeoutMs: 30_000,
  maxTries: 6,
  backoffMs: 250,
  maxBackoffMs: 10_000,
  maxRetryAfterMs: 30_000,
  breakAfter: 10,
  halfOpenAfterMs: 5_000,
};

/** Storage refused a request, or a request didn't get through. */
export class StorageError extends Error {
  override readonly name = "StorageError";
  /** Of the HTTP answer; undefined where there was none. */
  readonly status: number | undefined;
  /** Storage's own, such as `ContainerNotFound`. */
  readonly code: string | undefined;
  readonly retryAfterMs: number;

  constructor(what: string, why: string, answer: { status?: number; code?: string; retryAfterMs?: number }, cause?: unknown) {
    super(`could not ${what}: ${why}`, { cause });
    this.status = answer.status;
    this.code = answer.code;
    this.retryAfterMs = answer.retryAfterMs ?? 0;
  }

  /** Everything but a refusal for good. */
  get transient(): boolean {
    const { status } = this;
    return status === undefined || status < 400 || status >= 500 || status === 408 || status === 429;
  }
}

export interface StorageCalls {
  /**
   * Makes the request until it succeeds, is refused for good, or has been tried often enough; then throws a StorageError that
   * says `could not ${what}`. Throws the signal's reason once that is aborted. The request must be safe to repeat.
   */
  run<T>(what: string, request: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T>;
}

/**
 * Retries with backoff, behind one circuit breaker for everything that is called through it. The breaker is Cockatiel's; the loop
 * is not, because Cockatiel's waits can't be aborted. While the circuit is open, or being probed, a call waits its backoff as after
 * a failure, without a request.
 */
export function createStorageCalls(options: Partial<StorageCallOptions> = {}): StorageCalls {
  const settings = { ...defaults, ...options };
  const breaker = circuitBreaker(
    handleWhen((error) => error instanceof StorageError && error.transient),
    { breaker: new ConsecutiveBreaker(settings.breakAfter), halfOpenAfter: settings.halfOpenAfterMs },
  );

  function lastFailure(): unknown {
    const last = breaker.lastFailure;
    return last && "error" in last ? last.error : undefined;
  }

  async function attempt<T>(what: string, request: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const timeout = AbortSignal.timeout(settings.tryTimeoutMs);
    try {
      return await request(signal ? AbortSignal.any([signal, timeout]) : timeout);
    } catch (error) {
      signal?.throwIfAborted();
      if (timeout.aborted) throw new StorageError(what, `no answer within ${settings.tryTimeoutMs} ms`, {}, error);
      throw describe(what, error);
    }
  }

  return {
    async run(what, request, signal) {
      for (let tries = 1;; tries++) {
        signal?.throwIfAborted();
        try {
          if (breaker.state === CircuitState.HalfOpen) throw new BrokenCircuitError();
          return await breaker.execute(() => attempt(what, request, signal));
        } catch (error) {
          signal?.throwIfAborted();
          const failure = error instanceof BrokenCircuitError
            ? new StorageError(what, "too many requests failed, the circuit is open", {}, lastFailure())
            : error;
          if (!(failure instanceof StorageError) || !failure.transient || tries >= settings.maxTries) throw failure;
          if (failure.retryAfterMs > settings.maxRetryAfterMs) throw failure;
          const backoffMs = Math.min(settings.backoffMs * 2 ** (tries - 1), settings.maxBackoffMs) * (0.5 + Math.random());
          await sleep(Math.max(backoffMs, failure.retryAfterMs), undefined, signal && { signal }).catch(() => {});
        }
      }
    },
  };
}

function describe(what: string, error: unknown): unknown {
  if (error instanceof PermanentError) return error;
  if (!(error instanceof RestError) || error.statusCode === undefined) {
    return new StorageError(what, error instanceof Error ? error.message : String(error), {}, error);
  }
  const { statusCode: status, response } = error;
  const code = response?.headers.get("x-ms-error-code") ?? error.code;
  const retryAfter = response?.headers.get("retry-after");
  return new StorageError(
    what,
    `storage answered ${status}${code ? ` (${code})` : ""}`,
    { status, ...(code && { code }), ...(retryAfter && { retryAfterMs: parseRetryAfter(retryAfter) }) },
    error,
  );
}

/** Seconds or an HTTP date. */
function parseRetryAfter(value: string): number {
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(ms, 0) : 0;
}

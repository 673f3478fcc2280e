import {
  BrokenCircuitError,
  circuitBreaker,
  ConsecutiveBreaker,
  ExponentialBackoff,
  handleWhen,
  retry,
  timeout,
  TimeoutStrategy,
  wrap,
} from "cockatiel";
import * as v from "valibot";
import { parse } from "../../../shared/contracts/parse.ts";
import { PermanentError } from "../../../shared/errors.ts";

export interface HttpJudgeOptions {
  /** Of one try. */
  readonly timeoutMs: number;
  readonly tries?: number;
  readonly backoffMs?: number;
  /** Failed tries in a row that open the circuit, for ten seconds. */
  readonly breakAfter?: number;
}

/** An answer beyond this is none. */
const maxAnswerBytes = 1_048_576;

/**
 * Somebody else's scorer or reporter: gets the submission as a JSON POST, answers with JSON of the schema. 4xx but 408 and 429 is a
 * PermanentError, as is an answer that breaks the schema; anything else is tried again, behind a circuit breaker.
 */
export function createHttpJudge<Asked, Schema extends v.GenericSchema>(
  url: string,
  schema: Schema,
  { timeoutMs, tries = 3, backoffMs = 500, breakAfter = 5 }: HttpJudgeOptions,
): (asked: Asked, signal: AbortSignal) => Promise<v.InferOutput<Schema>> {
  const isTransient = handleWhen((error) => !(error instanceof PermanentError));
  const policy = wrap(
    retry(handleWhen((error) => !(error instanceof PermanentError) && !(error instanceof BrokenCircuitError)), {
      maxAttempts: tries - 1,
      backoff: new ExponentialBackoff({ initialDelay: backoffMs, maxDelay: 10_000 }),
    }),
    circuitBreaker(isTransient, { halfOpenAfter: 10_000, breaker: new ConsecutiveBreaker(breakAfter) }),
    timeout(timeoutMs, TimeoutStrategy.Aggressive),
  );

  return async (asked, signal) =>
    await policy.execute(async (context) => {
      const response = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json" },
        body: JSON.stringify(asked),
        redirect: "error",
        signal: AbortSignal.any([context.signal, signal]),
      });
      const text = await response.text();
      if (!response.ok) {
        const message = `${new URL(url).host} answered ${response.status}`;
        const { status } = response;
        if (status >= 400 && status < 500 && status !== 408 && status !== 429) throw new PermanentError("task-failed", message);
        throw new Error(message);
      }
      if (text.length > maxAnswerBytes) {
        throw new PermanentError("contract-violation", `${new URL(url).host} answered more than 1 MiB`);
      }
      return parse(schema, readJson(text, url), "contract-violation");
    }, signal);
}

function readJson(text: string, url: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new PermanentError("contract-violation", `${new URL(url).host} did not answer with JSON`, { cause });
  }
}

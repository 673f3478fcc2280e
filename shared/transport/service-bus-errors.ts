import { TimeLimitError } from "../time-limit.ts";
import { LockLostError } from "./transport.ts";

/** What a call of Service Bus failed with. The text names what was tried; the SDK's error is the cause. */
export class ServiceBusCallError extends Error {
  override readonly name = "ServiceBusCallError";
  /** The SDK's code, if it gave one: `ServiceBusy`, `MessagingEntityNotFound`… */
  readonly code: string | undefined;

  constructor(tried: string, cause: unknown) {
    super(`${tried}: ${describe(cause)}`, { cause });
    this.code = codeOf(cause);
  }

  /** Nothing was heard: the connection may be dead although nobody has said so. */
  get isSilence(): boolean {
    return this.cause instanceof TimeLimitError || this.code === "ServiceTimeout";
  }

  get isBusy(): boolean {
    return this.code === "ServiceBusy";
  }

  /** Whether the same call may succeed a moment later. */
  get isTransient(): boolean {
    return !(this.cause instanceof TimeLimitError) && !lasting.has(this.code ?? "");
  }
}

const lasting = new Set([
  "MessagingEntityNotFound",
  "MessagingEntityDisabled",
  "MessageSizeExceeded",
  "QuotaExceeded",
  "UnauthorizedAccess",
]);

/** LockLostError if that is what the SDK says, and a ServiceBusCallError otherwise. */
export function translateError(tried: string, thrown: unknown): LockLostError | ServiceBusCallError {
  if (thrown instanceof LockLostError || thrown instanceof ServiceBusCallError) return thrown;
  const cause = lastOf(thrown);
  if (codeOf(cause) === "MessageLockLost") return new LockLostError(`${tried}: the lock is lost`, { cause });
  return new ServiceBusCallError(tried, cause);
}

/** Where the SDK tries more than once, it throws an AggregateError without a text or a code. */
function lastOf(thrown: unknown): unknown {
  return thrown instanceof AggregateError && thrown.errors.length > 0 ? lastOf(thrown.errors.at(-1)) : thrown;
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = codeOf(error);
  return `${code === undefined ? "" : `${code}, `}${error.message || error.name}`;
}

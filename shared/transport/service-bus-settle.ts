import type { ServiceBusReceivedMessage, ServiceBusReceiver } from "@azure/service-bus";
import { TimeLimitError, withTimeLimit } from "../time-limit.ts";
import type { Connection, ConnectionSlot, Source } from "./service-bus-connection.ts";
import { translateError } from "./service-bus-errors.ts";
import type { Link } from "./service-bus-link.ts";
import { LockLostError } from "./transport.ts";

/** How a message of the SDK ends. */
export type Outcome =
  | { readonly settle: "complete" }
  | { readonly settle: "abandon"; readonly properties?: Record<string, number> }
  | { readonly settle: "dead-letter"; readonly deadLetterReason: string; readonly deadLetterErrorDescription: string };

/** What was received, and from where. */
export interface Received {
  readonly message: ServiceBusReceivedMessage;
  readonly source: Source;
  readonly link: Link;
}

export interface SettleOptions {
  readonly connections: ConnectionSlot;
  /** A second client. As it doesn't know the links of the first, it settles by lock token, whatever became of them. */
  readonly settlers: ConnectionSlot;
  /** The first answer is waited for so long, before the settler is asked. What was on its way when a connection broke is lost. */
  readonly answerMs: number;
}

/**
 * Settles a message on the link that delivered it, as nothing is faster, or by its lock token if that link is gone or doesn't
 * answer: a link that the SDK has opened again under the same name is another one, and the SDK would wait for it in vain.
 */
export async function settleMessage(received: Received, outcome: Outcome, options: SettleOptions): Promise<void> {
  const { message, source, link } = received;
  const tried = `settling message ${message.messageId} of ${source.queue}`;
  if (link.connection.gone.aborted || linkIsGone(message)) return await settleByToken(received, outcome, tried, options);
  const onLink = link.fence(outcome.settle === "complete" ? "complete" : "other", () => apply(link.receiver, message, outcome));
  try {
    await withTimeLimit(onLink, options.answerMs);
  } catch (thrown) {
    const error = translateError(tried, thrown);
    if (error instanceof LockLostError) throw error;
    const byToken = settleByToken(received, outcome, tried, options);
    if (!(error.cause instanceof TimeLimitError)) return await byToken;
    await firstToSucceed(tried, onLink, byToken);
  }
}

/** Locks it for another while. The lock belongs to no link, so any client will do. */
export async function renewLock(
  { message, source }: Received,
  { connections, settlers, answerMs }: SettleOptions,
): Promise<void> {
  const tried = `renewing the lock of message ${message.messageId} of ${source.queue}`;
  const renewOn = ({ call, manager }: Connection) => call(tried, () => manager(source).renewMessageLock(message));
  try {
    await withTimeLimit(renewOn(connections.current()), answerMs);
  } catch (error) {
    if (error instanceof LockLostError) throw error;
    await renewOn(settlers.current());
  }
}

async function settleByToken({ message, source }: Received, outcome: Outcome, tried: string, { settlers }: SettleOptions) {
  const settler = settlers.current();
  await settler.call(tried, () => apply(settler.manager(source), message, outcome));
}

async function apply(receiver: ServiceBusReceiver, message: ServiceBusReceivedMessage, outcome: Outcome): Promise<void> {
  if (outcome.settle === "complete") await receiver.completeMessage(message);
  else if (outcome.settle === "abandon") await receiver.abandonMessage(message, outcome.properties);
  else {
    const { deadLetterReason, deadLetterErrorDescription } = outcome;
    await receiver.deadLetterMessage(message, { deadLetterReason, deadLetterErrorDescription });
  }
}

/** If one of them did it, the other finds the lock lost. */
async function firstToSucceed(tried: string, ...settlements: readonly Promise<void>[]): Promise<void> {
  const results = settlements.map((settlement) =>
    settlement.catch((thrown: unknown) => {
      throw translateError(tried, thrown);
    })
  );
  try {
    await Promise.any(results);
  } catch (thrown) {
    const errors: readonly unknown[] = thrown instanceof AggregateError ? thrown.errors : [thrown];
    throw errors.find((error) => error instanceof LockLostError) ?? errors[0];
  }
}

/**
 * Whether the link that delivered a message is closed. The SDK keeps the delivery in its messages without documenting it; should
 * it not be there, the link counts as open, and its silence tells.
 */
function linkIsGone(message: object): boolean {
  const delivery: unknown = "delivery" in message ? message.delivery : undefined;
  const link: unknown = delivery instanceof Object && "link" in delivery ? delivery.link : undefined;
  if (!(link instanceof Object) || !("is_open" in link) || typeof link.is_open !== "function") return false;
  return link.is_open() === false;
}

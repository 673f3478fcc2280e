import type { LockedMessage } from "./transport.ts";

/** As Service Bus has it by default. */
export const defaultMaxDeliveryCount = 10;

/**
 * What Service Bus does by itself: dead-letters the messages that were delivered more often than `maxDeliveryCount`, and returns
 * the others. The second line, for crashes that beat the lease. One that can't be moved now stays locked, and is tried again when
 * its lock has expired.
 */
export async function deadLetterExceeded(
  messages: readonly LockedMessage[],
  maxDeliveryCount: number,
): Promise<readonly LockedMessage[]> {
  const exceeded = messages.filter((message) => message.deliveryCount > maxDeliveryCount);
  await Promise.allSettled(
    exceeded.map((message) =>
      message.moveToDeadLetters("max-delivery-count", `delivery ${message.deliveryCount} of at most ${maxDeliveryCount}`)
    ),
  );
  return messages.filter((message) => !exceeded.includes(message));
}

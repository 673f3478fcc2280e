import type { ServiceBusMessage, ServiceBusReceivedMessage } from "@azure/service-bus";
import { createHash } from "node:crypto";
import type { LockedMessage, OutgoingMessage } from "./transport.ts";

/**
 * A message of Standard has 262,144 bytes, of which this leaves room for its header, its properties, and the two texts of 4,096
 * characters that a dead letter has: what could be sent can be dead-lettered with its reason.
 */
export const maxBodyBytes = 229_376;

/** Of a dead letter's reason and description each. The SDK doesn't cut them, and too long a text fails again at every delivery. */
const maxTextLength = 4_096;
const maxIdLength = 128;
/** An id that is too long for the broker, which then has a hash of it. */
const idProperty = "sluice-message-id";
/** How often a dead letter was delivered from the dead letters: the broker doesn't count there. */
const deliveriesProperty = "sluice-dead-letter-deliveries";

export interface EncodeOptions {
  /** Default: as long as the queue says. */
  readonly timeToLiveMs?: number;
}

export function encodeMessage(message: OutgoingMessage, { timeToLiveMs }: EncodeOptions): ServiceBusMessage {
  const { messageId, body, correlationId, properties } = message;
  const isLong = messageId.length > maxIdLength;
  return {
    messageId: isLong ? `sha256-${createHash("sha256").update(messageId).digest("hex")}` : messageId,
    body: Buffer.from(body), // bytes are sent as they are, where a string would become JSON
    contentType: "application/json",
    ...(correlationId !== undefined && { correlationId }),
    applicationProperties: { ...properties, ...(isLong && { [idProperty]: messageId }) },
    ...(timeToLiveMs !== undefined && { timeToLive: timeToLiveMs }),
  };
}

export type DecodedMessage = Pick<LockedMessage, "messageId" | "identity" | "body" | "deliveryCount" | "deadLettered">;

export function decodeMessage(message: ServiceBusReceivedMessage, from: "queue" | "dead-letters"): DecodedMessage {
  const longId = message.applicationProperties?.[idProperty];
  const decoded = {
    messageId: typeof longId === "string" ? longId : String(message.messageId ?? ""),
    // Numbers begin anew in a queue that was made anew.
    identity: `${message.sequenceNumber ?? ""}@${message.enqueuedTimeUtc?.toISOString() ?? ""}`,
    body: textOf(message.body),
    // Forwarded dead letters are in a queue like any other.
    ...(message.deadLetterReason !== undefined && { deadLettered: describeDeadLetter(message) }),
  };
  return { ...decoded, deliveryCount: from === "queue" ? (message.deliveryCount ?? 0) + 1 : deliveriesOf(message) + 1 };
}

/** What a dead letter must be abandoned with, so that its next delivery counts one more. */
export function countDelivery(message: ServiceBusReceivedMessage): Record<string, number> {
  return { [deliveriesProperty]: deliveriesOf(message) + 1 };
}

export function deadLetterTexts(reason: string, description: string) {
  return { deadLetterReason: cut(reason), deadLetterErrorDescription: cut(description) };
}

function deliveriesOf(message: ServiceBusReceivedMessage): number {
  const counted = message.applicationProperties?.[deliveriesProperty];
  return typeof counted === "number" ? counted : 0;
}

/** Has the reason that all transports give for a message that was delivered too often. */
function describeDeadLetter(message: ServiceBusReceivedMessage) {
  const { deadLetterReason: reason = "", deadLetterErrorDescription: description = "", deliveryCount = 0 } = message;
  const source = message.deadLetterSource === undefined ? {} : { source: message.deadLetterSource };
  if (reason !== "MaxDeliveryCountExceeded") return { reason, description, ...source };
  return {
    ...source,
    reason: "max-delivery-count",
    description: `delivery ${deliveryCount + 1} would exceed the max of ${deliveryCount}: ${description}`,
  };
}

/** Ours are bytes of UTF-8; other senders may have used any type of AMQP. */
function textOf(body: unknown): string {
  if (body instanceof Uint8Array) return Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString();
  if (typeof body === "string") return body;
  if (Array.isArray(body) && body.every((part) => part instanceof Uint8Array)) return Buffer.concat(body).toString();
  try {
    return JSON.stringify(body) ?? "";
  } catch {
    return String(body); // a type that JSON doesn't have
  }
}

function cut(text: string): string {
  return text.slice(0, maxTextLength).toWellFormed();
}

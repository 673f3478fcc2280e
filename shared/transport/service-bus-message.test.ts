import type { ServiceBusReceivedMessage } from "@azure/service-bus";
import { expect, test } from "vitest";
import { deadLetterTexts, decodeMessage, encodeMessage, maxBodyBytes } from "./service-bus-message.ts";

/** As the broker would deliver what was encoded. */
function received(message: Partial<ServiceBusReceivedMessage>): ServiceBusReceivedMessage {
  return message as ServiceBusReceivedMessage;
}

test("a body travels as its bytes, with its type, and what people look for beside it", () => {
  const message = encodeMessage(
    { messageId: "a", body: '{"ä":1}', correlationId: "c", properties: { jobId: "j", kind: "tasks" } },
    { timeToLiveMs: 3_600_000 },
  );
  expect(message).toEqual({
    messageId: "a",
    body: Buffer.from('{"ä":1}'),
    contentType: "application/json",
    correlationId: "c",
    applicationProperties: { jobId: "j", kind: "tasks" },
    timeToLive: 3_600_000,
  });
  expect(encodeMessage({ messageId: "a", body: "" }, {})).not.toHaveProperty("timeToLive");
});

test("an id of more than 128 characters comes back whole, under one that the broker takes", () => {
  const messageId = "ü".repeat(129);
  const message = encodeMessage({ messageId, body: "" }, {});
  expect(String(message.messageId).length).toBeLessThanOrEqual(128);
  expect(encodeMessage({ messageId, body: "" }, {}).messageId).toBe(message.messageId);
  expect(encodeMessage({ messageId: `${messageId}ü`, body: "" }, {}).messageId).not.toBe(message.messageId);
  expect(decodeMessage(received(message as Partial<ServiceBusReceivedMessage>), "queue").messageId).toBe(messageId);
});

test.each([
  ["bytes", Buffer.from("text ✓"), "text ✓"],
  ["several sections of bytes", [Buffer.from("te"), Buffer.from("xt")], "text"],
  ["a value that is text", "text", "text"],
  ["a value of another type", { a: [1, true, null] }, '{"a":[1,true,null]}'],
  ["a number", 42, "42"],
  ["nothing", undefined, ""],
  ["what JSON doesn't have", 10n, "10"],
])("a body of %s is delivered as a text", (_, body, text) => {
  expect(decodeMessage(received({ body, messageId: 7, deliveryCount: 2 }), "queue")).toMatchObject({
    messageId: "7",
    body: text,
    deliveryCount: 3,
  });
});

test("a message is known by its number and its time, and a forwarded dead letter says what queue it comes from", () => {
  const enqueuedTimeUtc = new Date("2026-11-25T08:00:00Z");
  const forwarded = {
    sequenceNumber: 17 as never,
    enqueuedTimeUtc,
    deadLetterReason: "task-failed",
    deadLetterSource: "sb-tasks",
  };
  expect(decodeMessage(received({ body: "", messageId: "a", ...forwarded }), "queue")).toMatchObject({
    identity: "17@2026-11-25T08:00:00.000Z",
    deliveryCount: 1,
    deadLettered: { reason: "task-failed", description: "", source: "sb-tasks" },
  });
});

test("the texts of a dead letter are cut to 4,096 characters, and never through one", () => {
  const { deadLetterReason, deadLetterErrorDescription } = deadLetterTexts("r".repeat(5_000), `${"d".repeat(4_095)}\u{1f4a5}`);
  expect(deadLetterReason).toHaveLength(4_096);
  expect(deadLetterErrorDescription).toBe(`${"d".repeat(4_095)}\ufffd`);
  const most = Buffer.byteLength("\u{1f4a5}".repeat(2_048)) * 2;
  expect(maxBodyBytes + most).toBeLessThan(262_144 - 4_096);
});

test("a message that the broker dead-lettered has the reason that all transports give, others keep theirs", () => {
  const dead = (reason: string | undefined) =>
    decodeMessage(
      received(
        { body: "", messageId: "a", deliveryCount: 10, deadLetterReason: reason, deadLetterErrorDescription: "text" } as Partial<
          ServiceBusReceivedMessage
        >,
      ),
      "dead-letters",
    );
  expect(dead("MaxDeliveryCountExceeded").deadLettered).toEqual({
    reason: "max-delivery-count",
    description: "delivery 11 would exceed the max of 10: text",
  });
  expect(dead("TTLExpiredException").deadLettered).toEqual({ reason: "TTLExpiredException", description: "text" });
  expect(dead(undefined).deadLettered).toBeUndefined();
  expect(dead("task-failed").deliveryCount).toBe(1);
});

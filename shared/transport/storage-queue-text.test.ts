import { fc } from "../../test/support/seeded.ts";
import { expect, test } from "vitest";
import { PermanentError } from "../errors.ts";
import { decodeText, encodeDeadLetter, encodeMessage, maxBodyBytes } from "./storage-queue-text.ts";

const deadLettered = {
  reason: "task-failed",
  description: "why",
  deliveryCount: 3,
  enqueuedAt: "2025-11-23T06:00:00.000Z",
  identity: "5f2c",
};
const wellFormed = fc.string({ unit: "binary" });

test("any message comes back as it was", () => {
  fc.assert(fc.property(wellFormed, wellFormed, (messageId, body) => {
    expect(decodeText(encodeMessage({ messageId, body }))).toEqual({ messageId, body });
  }));
});

test("any dead letter comes back with its reason", () => {
  fc.assert(fc.property(wellFormed, wellFormed, wellFormed, (messageId, body, description) => {
    const decoded = decodeText(encodeDeadLetter({ messageId, body }, { ...deadLettered, description }) ?? "");
    expect(decoded).toEqual({ messageId, body, deadLettered: { reason: "task-failed", description }, identity: "5f2c" });
  }));
});

test("any text of somebody else's is a body, and decoding never throws", () => {
  fc.assert(fc.property(fc.oneof(wellFormed, fc.base64String()), (text) => {
    const { messageId, body } = decodeText(text);
    expect(messageId).toBeUndefined();
    expect([text, Buffer.from(text, "base64").toString()]).toContain(body);
  }));
});

test("text that somebody sent as base64 is decoded, bytes that are no text are not", () => {
  expect(decodeText(Buffer.from('{"jobId":"ä"}').toString("base64"))).toEqual({ body: '{"jobId":"ä"}' });
  for (const text of ["AAAA", "test", "deadbeef", "/////w=="]) expect(decodeText(text)).toEqual({ body: text });
});

test("a header that isn't ours is part of the body", () => {
  for (
    const text of ['{"sluice":1}\nbody', '{"sluice":2,"messageId":"a"}\nbody', '{"sluice":\nbody', '{"sluice":1,"messageId":"a"}']
  ) {
    expect(decodeText(Buffer.from(text).toString("base64"))).toEqual({ body: text });
  }
});

test("the largest message fits into 64 KiB, and so does its dead letter, whatever was to be said about it", () => {
  const message = { messageId: "m".repeat(200), body: "\u0001".repeat(maxBodyBytes) };
  expect(encodeMessage(message).length).toBeLessThanOrEqual(65_536);
  const text = encodeDeadLetter(message, { ...deadLettered, description: "\u0001\u{1f4a5}".repeat(100_000) }) ?? "";
  expect(text.length).toBeLessThanOrEqual(65_536);
  expect(decodeText(text).body === message.body).toBe(true);
  expect(decodeText(text).deadLettered?.description.length).toBeGreaterThan(100);
});

test("what only somebody else can have sent may leave no room for a reason", () => {
  expect(encodeDeadLetter({ messageId: "a", body: "a".repeat(65_536) }, deadLettered)).toBeUndefined();
});

test("an id that leaves no room is refused", () => {
  expect(() => encodeMessage({ messageId: "m".repeat(3_000), body: "a".repeat(maxBodyBytes) })).toThrow(PermanentError);
});

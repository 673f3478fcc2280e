import { fc } from "../../../test/support/seeded.ts";
import rhea from "rhea";
import { expect, test } from "vitest";
import type { QueueMessage } from "../queue/message.ts";
import { batchFormat, splitBatch } from "./batch.ts";
import { type AmqpContent, parseContent } from "./content.ts";
import { encodeMessage } from "./encode-message.ts";
import { createLockToken, deliveryTagOf } from "./lock-token.ts";

function stored(content: AmqpContent, given: Partial<QueueMessage<AmqpContent>> = {}): QueueMessage<AmqpContent> {
  return {
    content,
    sequenceNumber: 7,
    enqueuedSequenceNumber: 0,
    enqueuedAt: 1_700_000_000_000,
    timeToLiveMs: content.timeToLiveMs,
    expiresAt: Infinity,
    scheduledFor: content.scheduledFor,
    deadLetterSource: undefined,
    hops: 0,
    state: "active",
    deliveryCount: 0,
    changes: undefined,
    ...given,
  };
}

const text = fc.string({ unit: "grapheme", maxLength: 40 });
/** rhea can't decode the one left out. */
const key = text.filter((name) => name !== "__proto__");
const value = fc.oneof(text, fc.integer(), fc.boolean());
const message = fc.record({
  message_id: fc.option(fc.string({ minLength: 1, maxLength: 300 }), { nil: undefined }),
  subject: fc.option(text, { nil: undefined }),
  correlation_id: fc.option(text, { nil: undefined }),
  durable: fc.boolean(),
  priority: fc.nat(9),
  ttl: fc.option(fc.integer({ min: 1, max: 2 ** 32 - 1 }), { nil: undefined }),
  application_properties: fc.option(fc.dictionary(key, value), { nil: undefined }),
  message_annotations: fc.option(fc.record({ "x-opt-partition-key": text, "x-opt-mine": fc.nat() }), { nil: undefined }),
  body: fc.oneof(text, fc.nat(), fc.constant(null)),
});

test("any message comes out as it went in, but for what the broker adds", () => {
  fc.assert(fc.property(message, (sent) => {
    const content = parseContent(rhea.message.encode(sent));
    const received = rhea.message.decode(encodeMessage(stored(content), 1_700_000_060_000));
    expect(received.body).toEqual(sent.body);
    for (const name of ["subject", "correlation_id", "ttl"] as const) expect(received[name] ?? undefined).toEqual(sent[name]);
    expect([received.durable, received.priority, received.delivery_count]).toEqual([sent.durable, sent.priority, 0]);
    expect({ ...received.application_properties }).toEqual({ ...sent.application_properties });
    expect(received.message_annotations).toMatchObject({
      ...sent.message_annotations,
      "x-opt-sequence-number": 7,
      "x-opt-enqueue-sequence-number": 0,
      "x-opt-enqueued-time": new Date(1_700_000_000_000),
      "x-opt-locked-until": new Date(1_700_000_060_000),
    });
    if (sent.message_id === undefined) expect(received.message_id).toMatch(/^[0-9a-f]{32}$/);
    else expect(received.message_id).toBe(sent.message_id);
    expect(content.messageId()).toBe(received.message_id);
  }));
});

test("changed application properties replace those of the same name and keep the others, and all else", () => {
  const changes = fc.dictionary(key, value, { minKeys: 1 });
  fc.assert(fc.property(message, changes, (sent, changed) => {
    const content = parseContent(rhea.message.encode(sent));
    const received = rhea.message.decode(encodeMessage(stored(content, { changes: changed })));
    expect({ ...received.application_properties }).toEqual({ ...sent.application_properties, ...changed });
    expect([received.body, received.subject ?? undefined]).toEqual([sent.body, sent.subject]);
  }));
});

test("types of properties that aren't changed stay", () => {
  const properties = { short: rhea.types.wrap_short(1), date: rhea.types.wrap_timestamp(5), long: rhea.types.wrap_long(6) };
  const content = parseContent(rhea.message.encode({ application_properties: properties, body: "b" }));
  const bytes = encodeMessage(stored(content, { changes: { added: "a" } }));
  const codes = [0x61, 0x83, 0x55];
  for (const [index, name] of Object.keys(properties).entries()) {
    expect(bytes[bytes.indexOf(name) + name.length]).toBe(codes[index]);
  }
});

test("state, schedule and dead-letter source are told where they are", () => {
  const content = parseContent(rhea.message.encode({ message_id: "m", body: "b" }));
  const given = {
    state: "deferred",
    scheduledFor: 5,
    deadLetterSource: "tasks",
    deliveryCount: 300,
    enqueuedSequenceNumber: 2 ** 40,
  } as const;
  const received = rhea.message.decode(encodeMessage(stored(content, given)));
  expect(received.delivery_count).toBe(300);
  expect(received.message_annotations).toMatchObject({
    "x-opt-message-state": 1,
    "x-opt-scheduled-enqueue-time": new Date(5),
    "x-opt-deadletter-source": "tasks",
    "x-opt-enqueue-sequence-number": 2 ** 40,
  });
  expect(received.message_annotations).not.toHaveProperty("x-opt-locked-until");
});

test("annotations that are the broker's are not believed", () => {
  const annotations = {
    "x-opt-sequence-number": rhea.types.wrap_long(99),
    "x-opt-locked-until": rhea.types.wrap_timestamp(1),
    mine: "m",
  };
  const content = parseContent(rhea.message.encode({ message_id: "m", message_annotations: annotations, body: "b" }));
  const received = rhea.message.decode(encodeMessage(stored(content)));
  expect(received.message_annotations).toEqual(
    expect.objectContaining({ "x-opt-sequence-number": 7, mine: "m" }),
  );
  expect(received.message_annotations).not.toHaveProperty("x-opt-locked-until");
});

test("bytes that are no message are refused, and never taken for one", () => {
  const good = rhea.message.encode({ message_id: "m", body: "body" });
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(good.length - 1), (noise, cut) => {
    for (const bytes of [Buffer.from(noise), good.subarray(0, cut)]) {
      try {
        parseContent(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }
  }));
  expect(() => parseContent(good.subarray(0, good.length - 1))).toThrow();
});

test("a batch is split into the messages it was made of", () => {
  expect(batchFormat).toBe(0x80013700);
  const messages = ["a", "b"].map((body) => rhea.message.encode({ body }));
  const batch = rhea.message.encode({ body: rhea.message.data_sections(messages) });
  expect(splitBatch(batch).map((bytes) => rhea.message.decode(bytes).body)).toEqual(["a", "b"]);
});

test("a delivery tag has the lock token in the byte order of a .NET Guid", () => {
  expect(deliveryTagOf("00112233445566778899aabbccddeeff").toString("hex")).toBe("33221100554477668899aabbccddeeff");
  expect(createLockToken()).toMatch(/^[0-9a-f]{32}$/);
});

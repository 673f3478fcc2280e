import { afterAll, beforeAll, expect, test } from "vitest";
import { bodies, isOurBroker, openTestNamespace, receive, receiveOne, type TestNamespace } from "./test-namespace.ts";

let namespace: TestNamespace;
beforeAll(async () => {
  namespace = await openTestNamespace();
});
afterAll(() => namespace.stop());

async function openQueue(options?: Parameters<TestNamespace["createQueue"]>[0]) {
  const queue = await namespace.createQueue(options);
  const client = namespace.client();
  return { queue, client, sender: client.createSender(queue), receiver: client.createReceiver(queue) };
}

test("S1: a message arrives once, with its body, id and all properties as they were, and deliveryCount 0", async () => {
  const { sender, receiver } = await openQueue();
  const sent = {
    body: { text: "Grüße 🚀", list: [1, null, true] },
    messageId: "id-1",
    contentType: "application/json",
    correlationId: "correlation",
    subject: "subject",
    to: "to",
    replyTo: "reply-to",
    replyToSessionId: "reply-to-session",
    timeToLive: 3_600_000,
    applicationProperties: { text: "a", integer: 7, float: 1.5, yes: true, large: 2 ** 40 },
  };
  await sender.sendMessages(sent);
  const message = await receiveOne(receiver);
  expect(message).toMatchObject({ ...sent, deliveryCount: 0, state: "active" });
  expect(message.expiresAtUtc?.getTime()).toBe((message.enqueuedTimeUtc?.getTime() ?? 0) + 3_600_000);
  await receiver.completeMessage(message);
  expect(await receiver.peekMessages(1)).toEqual([]);
});

test.each([
  ["a string", "text"],
  ["a number", 42],
  ["null", null],
  ["nothing", undefined],
  ["bytes", Buffer.from([0, 1, 255])],
  ["a long text", "x".repeat(200_000)],
])("S1: a body of %s comes back", async (_, body) => {
  const { sender, receiver } = await openQueue();
  await sender.sendMessages({ body });
  expect((await receiveOne(receiver)).body ?? undefined).toEqual(body ?? undefined);
});

test("S2: messages sent together are peeked and received in that order", async () => {
  const { sender, receiver } = await openQueue();
  await sender.sendMessages([{ body: "a" }, { body: "b" }]);
  expect(bodies(await receiver.peekMessages(2))).toEqual(["a", "b"]);
  expect(bodies(await receive(receiver, 2))).toEqual(["a", "b"]);
});

test("S3: a batch takes its limit from the link, and what fitted in arrives", async () => {
  const { sender, receiver } = await openQueue();
  const batch = await sender.createMessageBatch();
  expect(batch.maxSizeInBytes).toBe(262_144);
  let fitted = 0;
  while (batch.tryAddMessage({ body: Buffer.alloc(20_000) })) fitted++;
  expect(fitted).toBeGreaterThan(10);
  expect(batch.tryAddMessage({ body: Buffer.alloc(20_000) })).toBe(false);
  await sender.sendMessages(batch);
  expect(await receive(receiver, fitted)).toHaveLength(fitted);
});

test("S4: more than the link's limit can't be asked for, nor be sent as one array", async () => {
  const { sender } = await openQueue();
  await expect(sender.createMessageBatch({ maxSizeInBytes: 300_000 })).rejects.toThrow(
    "Max message size (300000 bytes) is greater than maximum message size (262144 bytes) on the AMQP sender link.",
  );
  await expect(sender.sendMessages([{ body: Buffer.alloc(200_000) }, { body: Buffer.alloc(200_000) }]))
    .rejects.toMatchObject({ code: "MessageSizeExceeded" });
});

test("S5: one message that is too large is refused, and the link works on; an empty body in a batch is fine", async () => {
  const { sender, receiver } = await openQueue();
  await expect(sender.sendMessages({ body: Buffer.alloc(300_000) })).rejects.toMatchObject({ code: "MessageSizeExceeded" });
  const batch = await sender.createMessageBatch();
  batch.tryAddMessage({ body: "" });
  await sender.sendMessages(batch);
  expect((await receiveOne(receiver)).body).toBe("");
});

test("S6: a Date in the application properties is a timestamp on the way", async () => {
  const { queue, client, sender, receiver } = await openQueue();
  const date = new Date("2026-01-02T03:04:05.678Z");
  await sender.sendMessages([{ body: 1, applicationProperties: { date } }, { body: 2, applicationProperties: { date } }]);
  expect((await receiveOne(receiver)).applicationProperties).toEqual({ date: date.getTime() });
  const kept = client.createReceiver(queue, { skipConvertingDate: true });
  expect((await receiveOne(kept)).applicationProperties).toEqual({ date });
});

test("S7: a message id may be a number", async () => {
  const { sender, receiver } = await openQueue();
  await sender.sendMessages({ body: "a", messageId: 123_456 });
  expect((await receiveOne(receiver)).messageId).toBe(123_456);
});

test("S8: a session id is kept by a queue without sessions", async () => {
  const { sender, receiver } = await openQueue();
  await sender.sendMessages({ body: "a", sessionId: "s" });
  expect((await receiveOne(receiver)).sessionId).toBe("s");
});

test("S9: a received message can be sent again, as a new one", async () => {
  const { sender, receiver } = await openQueue();
  await sender.sendMessages({ body: "a", messageId: "m", applicationProperties: { x: 1 } });
  const first = await receiveOne(receiver);
  await sender.sendMessages(first);
  await receiver.completeMessage(first);
  expect(await receiveOne(receiver)).toMatchObject({
    body: "a",
    messageId: "m",
    applicationProperties: { x: 1 },
    deliveryCount: 0,
  });
});

test("2.1: a message without an id gets one of 32 hexadecimal digits", async () => {
  const { sender, receiver } = await openQueue();
  await sender.sendMessages([{ body: "a" }, { body: "b" }]);
  const ids = (await receive(receiver, 2)).map((message) => message.messageId);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{32}$/);
  expect(new Set(ids).size).toBe(2);
});

test("2.9: a duplicate is dropped with success; the number of a dropped schedule belongs to nothing", async () => {
  const { sender, receiver } = await openQueue({ requiresDuplicateDetection: true });
  await sender.sendMessages([{ body: 1, messageId: "a" }, { body: 2, messageId: "b" }, { body: 3, messageId: "a" }]);
  await sender.sendMessages({ body: 4, messageId: "b" });
  const [number] = await sender.scheduleMessages([{ body: 5, messageId: "a" }], new Date(Date.now() + 60_000));
  if (!number) throw new Error("no sequence number");
  await expect(sender.cancelScheduledMessages(number)).rejects.toMatchObject({ code: "MessageNotFound" });
  expect(bodies(await receive(receiver, 2))).toEqual([1, 2]);
  expect(bodies(await receiver.peekMessages(9, { fromSequenceNumber: number }))).toEqual([]);
});

test.runIf(isOurBroker)("a full queue refuses with QuotaExceeded until there is room", async () => {
  const { sender, receiver } = await openQueue({ maxSizeInMegabytes: 1 });
  for (let sent = 0; sent < 5; sent++) await sender.sendMessages({ body: Buffer.alloc(200_000) });
  await expect(sender.sendMessages({ body: Buffer.alloc(200_000) })).rejects.toMatchObject({ code: "QuotaExceeded" });
  await receiver.completeMessage(await receiveOne(receiver));
  await sender.sendMessages({ body: Buffer.alloc(200_000) });
});

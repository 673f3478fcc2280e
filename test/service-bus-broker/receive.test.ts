import type { ServiceBusReceivedMessage } from "@azure/service-bus";
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

async function countOf(queue: string): Promise<number> {
  return (await namespace.admin.getQueueRuntimeProperties(queue)).totalMessageCount ?? 0;
}

test("R1: a message received under peek-lock has a token and a lock of the queue's duration", async () => {
  const { sender, receiver } = await openQueue({ lockDuration: "PT30S" });
  await sender.sendMessages({ body: "a" });
  const receivedAt = Date.now();
  const message = await receiveOne(receiver);
  expect(message.lockToken).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  expect(Math.abs((message.lockedUntilUtc?.getTime() ?? 0) - receivedAt - 30_000)).toBeLessThan(3_000);
});

test("R2, R3: what is there is returned, without waiting for more or for ever; nothing is []", async () => {
  const { sender, receiver } = await openQueue();
  expect(await receiver.receiveMessages(2, { maxWaitTimeInMs: 300 })).toEqual([]);
  await sender.sendMessages({ body: "a" });
  const begin = performance.now();
  expect(bodies(await receiver.receiveMessages(2, { maxWaitTimeInMs: 20_000 }))).toEqual(["a"]);
  expect(performance.now() - begin).toBeLessThan(10_000);
});

test("R4: receives one after another work on the same link", async () => {
  const { sender, receiver } = await openQueue();
  await sender.sendMessages([{ body: 1 }, { body: 2 }, { body: 3 }]);
  expect(bodies([await receiveOne(receiver), await receiveOne(receiver), await receiveOne(receiver)])).toEqual([1, 2, 3]);
});

test("R5: receiveAndDelete takes messages away, with no lock and deliveryCount 0", async () => {
  const { client, queue, sender } = await openQueue();
  await sender.sendMessages([{ body: 1 }, { body: 2 }]);
  const receiver = client.createReceiver(queue, { receiveMode: "receiveAndDelete" });
  const messages = await receive(receiver, 2);
  for (const message of messages) expect(message).toMatchObject({ deliveryCount: 0, lockToken: undefined });
  expect(await receiver.peekMessages(1)).toEqual([]);
});

test.each([1, 2])("R6: with maxConcurrentCalls %i so many are delivered before one is settled", async (maxConcurrentCalls) => {
  const { client, queue, sender, receiver } = await openQueue();
  await sender.sendMessages([{ body: 1 }, { body: 2 }, { body: 3 }]);
  const entered: ServiceBusReceivedMessage[] = [];
  const gates: (() => void)[] = [];
  const subscription = receiver.subscribe({
    processMessage(message) {
      entered.push(message);
      return new Promise<void>((resolve) => gates.push(resolve));
    },
    async processError() {},
  }, { maxConcurrentCalls });
  await expect.poll(() => entered.length).toBe(maxConcurrentCalls);
  // The next one is free for others, so it wasn't sent ahead.
  const other = await receiveOne(client.createReceiver(queue));
  expect(other.body).toBe(maxConcurrentCalls + 1);
  expect(entered).toHaveLength(maxConcurrentCalls);
  for (const open of gates) open();
  await subscription.close();
});

test("R7: closing a subscription drains it: what was delivered can be settled, and what comes later goes to others", async () => {
  const { client, queue, sender, receiver } = await openQueue();
  await sender.sendMessages({ body: "early" });
  const { promise: delivered, resolve } = Promise.withResolvers<ServiceBusReceivedMessage>();
  const subscription = receiver.subscribe(
    { processMessage: async (message) => resolve(message), processError: async () => {} },
    { autoCompleteMessages: false, maxConcurrentCalls: 5 },
  );
  const early = await delivered;
  await subscription.close();
  await sender.sendMessages({ body: "late" });
  await receiver.completeMessage(early);
  const other = client.createReceiver(queue);
  const late = await receiveOne(other);
  expect(late).toMatchObject({ body: "late", deliveryCount: 0 });
  await other.completeMessage(late);

  await sender.sendMessages({ body: "again" });
  const { promise: again, resolve: resolveAgain } = Promise.withResolvers<unknown>();
  const second = receiver.subscribe({ processMessage: async ({ body }) => resolveAgain(body), processError: async () => {} });
  expect(await again).toBe("again");
  await second.close();
});

test("R8: a receiver closed right after subscribe loses nothing", async () => {
  const { queue, sender, receiver } = await openQueue();
  await sender.sendMessages(Array.from({ length: 5 }, (_, body) => ({ body })));
  receiver.subscribe({ processMessage: async () => {}, processError: async () => {} }, { autoCompleteMessages: false });
  await receiver.close();
  expect(await countOf(queue)).toBe(5);
});

test("R9: 2,047 messages stay locked on one link, in portions of 50; all are counted", async () => {
  const { queue, sender, receiver } = await openQueue({ lockDuration: "PT5M" });
  await sendMany(sender, 3_000);
  const seen = new Set<number>();
  while (seen.size < 2_000) for (const { body } of await receive(receiver, 50)) seen.add(Number(body));
  for (const { body } of await receive(receiver, 47)) seen.add(Number(body));
  expect(seen.size).toBe(2_047);
  expect(await countOf(queue)).toBe(3_000);
});

test("R9: 3,000 messages received and deleted leave none", async () => {
  const { client, queue, sender } = await openQueue();
  await sendMany(sender, 3_000);
  expect(await receive(client.createReceiver(queue, { receiveMode: "receiveAndDelete" }), 3_000)).toHaveLength(3_000);
  expect(await countOf(queue)).toBe(0);
});

test("D1, D3: deferred messages come by number, in the order asked for, and only all together", async () => {
  const { sender, receiver } = await openQueue();
  await sender.sendMessages([{ body: "a" }, { body: "b" }]);
  const [a, b] = await receive(receiver, 2);
  if (!a?.sequenceNumber || !b?.sequenceNumber) throw new Error("no sequence numbers");
  await receiver.deferMessage(a);
  await receiver.deferMessage(b);
  await expect(receiver.receiveDeferredMessages([a.sequenceNumber, b.sequenceNumber.add(10)])).rejects
    .toMatchObject({ code: "MessageNotFound" });
  const deferred = await receiver.receiveDeferredMessages([b.sequenceNumber, a.sequenceNumber]);
  expect(bodies(deferred)).toEqual(["b", "a"]);
  expect(deferred.map(({ state }) => state)).toEqual(["deferred", "deferred"]);
  await expect(receiver.receiveDeferredMessages(a.sequenceNumber)).rejects.toMatchObject({ code: "MessageNotFound" });
  expect(await receiver.receiveDeferredMessages([])).toEqual([]);
});

test("D2: a renewed deferred message stays locked, an abandoned one deferred, a completed one is gone", async () => {
  const { sender, receiver } = await openQueue();
  await sender.sendMessages({ body: "a" });
  const message = await receiveOne(receiver);
  await receiver.deferMessage(message);
  const number = message.sequenceNumber ?? [];
  const [first] = await receiver.receiveDeferredMessages(number);
  if (!first) throw new Error("nothing deferred");
  expect((await receiver.renewMessageLock(first)).getTime()).toBeGreaterThan(Date.now());
  await receiver.abandonMessage(first);
  const [second] = await receiver.receiveDeferredMessages(number);
  if (!second) throw new Error("nothing deferred");
  await receiver.completeMessage(second);
  expect(await receiver.peekMessages(1)).toEqual([]);
});

test("D4: a deferred message received and deleted is gone, with deliveryCount 1", async () => {
  const { client, queue, sender, receiver } = await openQueue();
  await sender.sendMessages({ body: "a" });
  const message = await receiveOne(receiver);
  await receiver.deferMessage(message);
  const deleting = client.createReceiver(queue, { receiveMode: "receiveAndDelete" });
  expect(await deleting.receiveDeferredMessages(message.sequenceNumber ?? [])).toMatchObject([{ body: "a", deliveryCount: 1 }]);
  expect(await receiver.peekMessages(1)).toEqual([]);
});

test("P1: peek shows all messages with their state, in order, and locks nothing", async () => {
  const { sender, receiver } = await openQueue();
  await sender.sendMessages([{ body: "deferred" }, { body: "locked" }, { body: "active" }]);
  const [deferred] = await receive(receiver, 2);
  if (!deferred) throw new Error("nothing received");
  await receiver.deferMessage(deferred);
  await sender.scheduleMessages({ body: "later" }, new Date(Date.now() + 60_000));
  const peeked = await receiver.peekMessages(10);
  expect(peeked.map(({ body, state }) => [body, state])).toEqual([
    ["deferred", "deferred"],
    ["locked", "active"],
    ["active", "active"],
    ["later", "scheduled"],
  ]);
  expect(peeked[2]?.lockToken).toBeUndefined();
  expect(await receiveOne(receiver)).toMatchObject({ body: "active", deliveryCount: 0 });
});

test("P1: one peek goes on where the last one ended, or where it is told to begin", async () => {
  const { sender, receiver } = await openQueue();
  await sender.sendMessages([{ body: 1 }, { body: 2 }, { body: 3 }]);
  const [one] = await receiver.peekMessages(1);
  expect(bodies(await receiver.peekMessages(9))).toEqual([2, 3]);
  if (!one?.sequenceNumber) throw new Error("no sequence number");
  expect(bodies(await receiver.peekMessages(2, { fromSequenceNumber: one.sequenceNumber }))).toEqual([1, 2]);
});

test.runIf(isOurBroker)("messages are shared between receivers, one to each in turn", async () => {
  const { client, queue, sender } = await openQueue();
  const shares = [0, 0, 0];
  const subscriptions = shares.map((_, index) =>
    client.createReceiver(queue, { receiveMode: "receiveAndDelete" }).subscribe({
      async processMessage() {
        shares[index] = (shares[index] ?? 0) + 1;
      },
      async processError() {},
    }, { maxConcurrentCalls: 100 })
  );
  // Each has to be there before the messages are.
  for (let at = 0; at < 1_000 && shares.some((share) => share === 0); at++) {
    await sender.sendMessages({ body: at });
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const before = [...shares];
  await sendMany(sender, 300);
  await expect.poll(() => shares.reduce((sum, share) => sum + share, 0)).toBe(before.reduce((sum, share) => sum + share, 300));
  for (const [index, share] of shares.entries()) expect(share - (before[index] ?? 0)).toBeGreaterThan(50);
  await Promise.all(subscriptions.map((subscription) => subscription.close()));
});

async function sendMany(sender: { sendMessages(messages: { body: number }[]): Promise<void> }, count: number): Promise<void> {
  for (let from = 0; from < count; from += 500) {
    await sender.sendMessages(Array.from({ length: Math.min(500, count - from) }, (_, index) => ({ body: from + index })));
  }
}

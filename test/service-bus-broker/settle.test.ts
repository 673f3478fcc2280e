import { afterAll, beforeAll, expect, test } from "vitest";
import { isOurBroker, openTestNamespace, receive, receiveOne, shortLock, type TestNamespace } from "./test-namespace.ts";

let namespace: TestNamespace;
beforeAll(async () => {
  namespace = await openTestNamespace();
});
afterAll(() => namespace.stop());

async function openQueue(options?: Parameters<TestNamespace["createQueue"]>[0], ...sent: string[]) {
  const queue = await namespace.createQueue(options);
  const client = namespace.client();
  const sender = client.createSender(queue);
  const messages = sent.length > 0 ? sent : ["a"];
  await sender.sendMessages(messages.map((body) => ({ body, messageId: `id-${body}`, applicationProperties: { old: 1 } })));
  return {
    queue,
    client,
    sender,
    // The SDK would renew the locks by itself.
    receiver: client.createReceiver(queue, { maxAutoLockRenewalDurationInMs: 0 }),
    deadLetters: client.createReceiver(queue, { subQueueType: "deadLetter" }),
  };
}

function numberOf({ sequenceNumber }: { sequenceNumber?: Long }): Long {
  if (!sequenceNumber) throw new Error("a message without a sequence number");
  return sequenceNumber;
}
type Long = NonNullable<Awaited<ReturnType<typeof receiveOne>>["sequenceNumber"]>;

test("C1: a completed message is gone", async () => {
  const { receiver } = await openQueue();
  await receiver.completeMessage(await receiveOne(receiver));
  expect(await receiver.peekMessages(1)).toEqual([]);
});

test("C2: an abandoned message is there at once, with the same id and number and a count one higher", async () => {
  const { receiver } = await openQueue();
  const first = await receiveOne(receiver);
  await receiver.abandonMessage(first);
  const second = await receiveOne(receiver);
  expect(second).toMatchObject({ messageId: "id-a", sequenceNumber: first.sequenceNumber, deliveryCount: 1 });
});

test("C3: a message that isn't settled comes again when its lock is over, with a count one higher", async () => {
  const { receiver } = await openQueue({ lockDuration: shortLock });
  await receiveOne(receiver);
  expect(await receiveOne(receiver)).toMatchObject({ body: "a", deliveryCount: 1 });
});

test("C4: defer adds to the count, and so do abandon and defer of a deferred message", async () => {
  const { receiver } = await openQueue();
  const first = await receiveOne(receiver);
  await receiver.deferMessage(first);
  const [second] = await receiver.receiveDeferredMessages(numberOf(first));
  if (!second) throw new Error("nothing deferred");
  expect(second.deliveryCount).toBe(1);
  await receiver.abandonMessage(second);
  const [third] = await receiver.receiveDeferredMessages(numberOf(first));
  expect(third?.deliveryCount).toBe(2);
});

test("C5: MaxDeliveryCount is the number of deliveries, counted from 0; the last failure makes a dead letter", async () => {
  const { receiver, deadLetters } = await openQueue({ maxDeliveryCount: 3 });
  const counts = [];
  for (let delivery = 0; delivery < 3; delivery++) {
    const message = await receiveOne(receiver);
    counts.push(message.deliveryCount);
    await receiver.abandonMessage(message);
  }
  expect(counts).toEqual([0, 1, 2]);
  expect(await receiver.peekMessages(1)).toEqual([]);
  expect(await receiveOne(deadLetters)).toMatchObject({
    body: "a",
    messageId: "id-a",
    deliveryCount: 3,
    deadLetterReason: "MaxDeliveryCountExceeded",
    deadLetterErrorDescription: "Message could not be consumed after 3 delivery attempts.",
  });
});

test("C6, C10: a dead letter keeps its count and number, and carries reason, description and other properties", async () => {
  const { receiver, deadLetters } = await openQueue();
  const message = await receiveOne(receiver);
  await receiver.deadLetterMessage(message, { deadLetterReason: "why", deadLetterErrorDescription: "because", extra: "x" });
  const dead = await receiveOne(deadLetters);
  expect(dead).toMatchObject({
    deliveryCount: 0,
    sequenceNumber: message.sequenceNumber,
    enqueuedTimeUtc: message.enqueuedTimeUtc,
    deadLetterReason: "why",
    deadLetterErrorDescription: "because",
    applicationProperties: { old: 1, extra: "x" },
  });
  expect(dead.deadLetterSource).toBeUndefined();
});

test("C6, C10: a deferred message is dead-lettered with count 1 and its properties", async () => {
  const { receiver, deadLetters } = await openQueue();
  const message = await receiveOne(receiver);
  await receiver.deferMessage(message);
  const [deferred] = await receiver.receiveDeferredMessages(numberOf(message));
  if (!deferred) throw new Error("nothing deferred");
  await receiver.deadLetterMessage(deferred, { deadLetterReason: "why", deadLetterErrorDescription: "because", extra: "x" });
  expect(await receiveOne(deadLetters)).toMatchObject({
    deliveryCount: 1,
    deadLetterReason: "why",
    deadLetterErrorDescription: "because",
    applicationProperties: { old: 1, extra: "x" },
  });
});

test("C7, C8, C9: a dead letter can be abandoned uncounted, not dead-lettered, deferred, received by number and completed", async () => {
  const { receiver, deadLetters } = await openQueue({ lockDuration: shortLock });
  await receiver.deadLetterMessage(await receiveOne(receiver));
  await deadLetters.abandonMessage(await receiveOne(deadLetters));
  const message = await receiveOne(deadLetters);
  expect(message.deliveryCount).toBe(0);
  await expect(deadLetters.deadLetterMessage(message)).rejects.toMatchObject({ code: "GeneralError" });
  const again = await receiveOne(deadLetters);
  expect(again.deliveryCount).toBe(0);
  await deadLetters.deferMessage(again);
  const [deferred] = await deadLetters.receiveDeferredMessages(numberOf(again));
  if (!deferred) throw new Error("nothing deferred");
  await deadLetters.completeMessage(deferred);
  expect(await deadLetters.peekMessages(1)).toEqual([]);
});

test("C11: properties of abandon and defer are on the next delivery, over the link and over $management", async () => {
  const { receiver } = await openQueue();
  await receiver.abandonMessage(await receiveOne(receiver), { old: 2, text: "t" });
  const second = await receiveOne(receiver);
  expect(second.applicationProperties).toEqual({ old: 2, text: "t" });
  await receiver.deferMessage(second, { flag: true });
  const [third] = await receiver.receiveDeferredMessages(numberOf(second));
  if (!third) throw new Error("nothing deferred");
  expect(third.applicationProperties).toEqual({ old: 2, text: "t", flag: true });
  await receiver.abandonMessage(third, { text: "u" });
  expect((await receiver.receiveDeferredMessages(numberOf(second)))[0]?.applicationProperties).toEqual({
    old: 2,
    text: "u",
    flag: true,
  });
});

test("C12: settling a second time fails in the client", async () => {
  const { receiver } = await openQueue();
  const message = await receiveOne(receiver);
  await receiver.completeMessage(message);
  await expect(receiver.completeMessage(message)).rejects.toThrow("either been deleted or already settled");
});

test("C13: completing after the lock is over fails with MessageLockLost, and the message comes again", async () => {
  const { receiver, client, queue } = await openQueue({ lockDuration: shortLock });
  const message = await receiveOne(receiver);
  const again = await receiveOne(client.createReceiver(queue)); // comes when the lock is over
  await expect(receiver.completeMessage(message)).rejects.toMatchObject({ code: "MessageLockLost" });
  await receiver.completeMessage(again);
});

test.each(["complete", "abandon", "defer", "deadLetter", "renew"] as const)(
  "C14: %s works when the receiver was closed before, since a detach ends no locks",
  async (how) => {
    const { receiver, client, queue } = await openQueue();
    const message = await receiveOne(receiver);
    await receiver.close();
    const other = client.createReceiver(queue);
    if (how === "complete") await other.completeMessage(message);
    if (how === "abandon") await other.abandonMessage(message);
    if (how === "defer") await other.deferMessage(message);
    if (how === "deadLetter") await other.deadLetterMessage(message);
    if (how === "renew") {
      expect((await other.renewMessageLock(message)).getTime()).toBeGreaterThan(Date.now());
      await other.completeMessage(message);
    }
    const [left] = await other.peekMessages(1);
    expect(left?.state).toBe(
      { complete: undefined, renew: undefined, deadLetter: undefined, abandon: "active", defer: "deferred" }[how],
    );
  },
);

test("C15: a handler that throws is told to processError, and its message comes again at once", async () => {
  const { receiver } = await openQueue();
  const errors: string[] = [];
  const counts: (number | undefined)[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const subscription = receiver.subscribe({
    async processMessage({ deliveryCount }) {
      counts.push(deliveryCount);
      if (counts.length === 1) throw new Error("the first fails");
      resolve();
    },
    async processError({ error }) {
      errors.push(error.message);
    },
  });
  await promise;
  await subscription.close();
  expect(counts).toEqual([0, 1]);
  expect(errors).toEqual(["the first fails"]);
});

test("C16: autoComplete completes after the handler; without it the message stays locked", async () => {
  for (const autoCompleteMessages of [true, false]) {
    const { receiver } = await openQueue();
    const { promise, resolve } = Promise.withResolvers<void>();
    const subscription = receiver.subscribe({
      async processMessage() {
        resolve();
      },
      async processError() {},
    }, { autoCompleteMessages });
    await promise;
    await subscription.close();
    await expect.poll(async () => (await receiver.peekMessages(1)).length).toBe(autoCompleteMessages ? 0 : 1);
    await receiver.close();
  }
});

test.runIf(isOurBroker)("H1: settlements of different outcomes, one frame each, get the outcome that was asked for", async () => {
  // As the SDK needs it: rhea merges the first two settlements of a turn, so each has its own.
  const count = 40;
  const { receiver, deadLetters } = await openQueue({}, ...Array.from({ length: count }, (_, index) => String(index)));
  const messages = await receive(receiver, count);
  const settled: Promise<void>[] = [];
  for (const [index, message] of messages.entries()) {
    settled.push(
      index % 3 === 0
        ? receiver.completeMessage(message)
        : index % 3 === 1
        ? receiver.abandonMessage(message)
        : receiver.deadLetterMessage(message, { deadLetterReason: String(index), deadLetterErrorDescription: "" }),
    );
    await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(settled);
  expect((await receiver.peekMessages(count)).map(({ body }) => Number(body) % 3)).toEqual(Array(13).fill(1));
  const dead = await receive(deadLetters, 13);
  for (const { body, deadLetterReason } of dead) expect(deadLetterReason).toBe(body);
});

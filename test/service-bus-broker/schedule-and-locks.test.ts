import { afterAll, beforeAll, expect, test } from "vitest";
import { createManualClock } from "../../dev/service-bus-broker/manual-clock.ts";
import {
  bodies,
  isOurBroker,
  openBroker,
  openTestNamespace,
  receive,
  receiveOne,
  shortLock,
  type TestNamespace,
} from "./test-namespace.ts";

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

test("T1: a message comes not before the time it is scheduled for, whichever way it was scheduled", async () => {
  const { sender, receiver } = await openQueue();
  const at = new Date(Date.now() + 1_000);
  await sender.scheduleMessages({ body: "scheduled" }, at);
  await sender.sendMessages({ body: "sent", scheduledEnqueueTimeUtc: at });
  const messages = await receive(receiver, 2);
  expect(Date.now()).toBeGreaterThanOrEqual(at.getTime());
  expect(bodies(messages).toSorted()).toEqual(["scheduled", "sent"]);
  for (const { enqueuedTimeUtc, scheduledEnqueueTimeUtc, state } of messages) {
    expect(enqueuedTimeUtc?.getTime()).toBeGreaterThanOrEqual(at.getTime());
    expect([scheduledEnqueueTimeUtc, state]).toEqual([at, "active"]);
  }
});

test("T2: each scheduled message has a number; none have []; the past is now", async () => {
  const { sender, receiver } = await openQueue();
  const past = new Date(Date.now() - 1_000);
  const numbers = await sender.scheduleMessages([{ body: 1 }, { body: 2 }], past);
  expect(new Set(numbers.map(String)).size).toBe(2);
  expect(await sender.scheduleMessages([], past)).toEqual([]);
  expect(bodies(await receive(receiver, 2))).toEqual([1, 2]);
});

test("T3, T4, P2: cancelled messages are gone; an unknown number is MessageNotFound; none is no error", async () => {
  const { sender, receiver } = await openQueue();
  const [one, two, three] = await sender.scheduleMessages(
    [{ body: 1 }, { body: 2 }, { body: 3 }],
    new Date(Date.now() + 3_600_000),
  );
  if (!one || !two || !three) throw new Error("no sequence numbers");
  await sender.cancelScheduledMessages(one);
  await sender.cancelScheduledMessages([two]);
  await sender.cancelScheduledMessages([]);
  await expect(sender.cancelScheduledMessages(one)).rejects.toMatchObject({ code: "MessageNotFound" });
  expect(bodies(await receiver.peekMessages(9, { fromSequenceNumber: one }))).toEqual([3]);
});

test("T5: peek at the number shows the message and its time", async () => {
  const { sender, receiver } = await openQueue();
  const at = new Date(Date.now() + 3_600_000);
  const [number] = await sender.scheduleMessages([{ body: "later" }], at);
  if (!number) throw new Error("no sequence number");
  expect(await receiver.peekMessages(1, { fromSequenceNumber: number })).toMatchObject([
    { body: "later", state: "scheduled", scheduledEnqueueTimeUtc: at, sequenceNumber: number },
  ]);
});

test("L1: a renewal sets the lock to a full duration from now", async () => {
  const { sender, receiver } = await openQueue({ lockDuration: "PT30S" });
  await sender.sendMessages({ body: "a" });
  const message = await receiveOne(receiver);
  const renewedUntil = await receiver.renewMessageLock(message);
  expect(renewedUntil.getTime()).toBeGreaterThanOrEqual(message.lockedUntilUtc?.getTime() ?? Infinity);
  expect(Math.abs(renewedUntil.getTime() - Date.now() - 30_000)).toBeLessThan(3_000);
  await receiver.completeMessage(message);
  await expect(receiver.renewMessageLock(message)).rejects.toMatchObject({ code: "MessageLockLost" });
});

test.runIf(isOurBroker)("L2: a lock that the SDK renews outlives its duration, one it doesn't is lost", async () => {
  const { client, queue, sender } = await openQueue({ lockDuration: shortLock });
  await sender.sendMessages([{ body: "renewed" }, { body: "not" }]);
  const renewing = client.createReceiver(queue, { maxAutoLockRenewalDurationInMs: 60_000 });
  const renewed = await receiveOne(renewing);
  const plain = client.createReceiver(queue, { maxAutoLockRenewalDurationInMs: 0 });
  const not = await receiveOne(plain);
  const again = await receiveOne(plain); // only the lock of this one is over
  expect(again.body).toBe("not");
  await renewing.completeMessage(renewed);
  await expect(plain.completeMessage(not)).rejects.toMatchObject({ code: "MessageLockLost" });
});

test("locks, schedules and times to live follow the clock that the broker is given", async () => {
  const clock = createManualClock();
  const own = await openBroker({ clock, queues: { q: { deadLetteringOnMessageExpiration: true } } });
  try {
    const client = own.client();
    const sender = client.createSender("q");
    const receiver = client.createReceiver("q", { maxAutoLockRenewalDurationInMs: 0 });
    await sender.sendMessages({ body: "locked" });
    await receiveOne(receiver);
    clock.advance(60_000);
    expect(await receiveOne(receiver)).toMatchObject({ body: "locked", deliveryCount: 1 });

    await sender.sendMessages([
      { body: "later", scheduledEnqueueTimeUtc: new Date(clock.now() + 300_000) },
      { body: "short", timeToLive: 100_000 },
    ]);
    const short = await receiveOne(receiver);
    clock.advance(200_000); // over are both locks, and the time of the second
    const deadLetters = client.createReceiver("q", { subQueueType: "deadLetter" });
    expect(await receiveOne(deadLetters)).toMatchObject({
      body: short.body,
      deadLetterReason: "TTLExpiredException",
      deliveryCount: 1,
    });
    clock.advance(100_000);
    expect(bodies(await receive(receiver, 2)).toSorted()).toEqual(["later", "locked"]);
  } finally {
    await own.stop();
  }
});

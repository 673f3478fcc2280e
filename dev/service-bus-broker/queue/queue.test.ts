import { expect, test } from "vitest";
import { content } from "./content-for-tests.ts";
import { testQueue } from "./queue-for-tests.ts";

/** Receives, as a test that knows there is something. */
function receive({ active }: ReturnType<typeof testQueue>, now: number) {
  const received = active.receive(now);
  if (!received) throw new Error("nothing to receive");
  return received;
}

test("S2: messages are received in the order in which they were sent, and peeked likewise", () => {
  const queue = testQueue();
  queue.send([content("a"), content("b")], 0);
  expect(queue.active.peek(0, 10).map((message) => message.content.name)).toEqual(["a", "b"]);
  expect(receive(queue, 0).message.content.name).toBe("a");
  expect(receive(queue, 0).message.content.name).toBe("b");
  expect(queue.active.receive(0)).toBeUndefined();
});

test("R1: a received message is locked for the lock duration", () => {
  const queue = testQueue({ lockDurationMs: 7_000 });
  queue.send([content("a")], 0);
  expect(receive(queue, 1_000).lockedUntil).toBe(8_000);
});

test("C1: a completed message is gone, and nothing of it is remembered", () => {
  const queue = testQueue();
  queue.send([content("a")], 0);
  queue.active.complete(receive(queue, 0).lockToken, 1);
  expect(queue.active.peek(0, 10)).toEqual([]);
  expect(queue.bytes).toBe(0);
  expect(queue.footprint()).toEqual({ messages: 0, locks: 0, timers: 0, messageIds: 0 });
});

test("C2: an abandoned message is there again at once, with the same number and a count one higher", () => {
  const queue = testQueue();
  queue.send([content("a"), content("b")], 0);
  queue.active.abandon(receive(queue, 0).lockToken, 1);
  const again = receive(queue, 1);
  expect(again.message).toMatchObject({ sequenceNumber: 1, deliveryCount: 1, content: { name: "a" } });
});

test("C3: a message that isn't settled is there again when its lock is over, with a count one higher", () => {
  const queue = testQueue();
  queue.send([content("a")], 0);
  receive(queue, 0);
  queue.active.advance(9_999);
  expect(queue.active.receive(9_999)).toBeUndefined();
  expect(queue.nextDeadline()).toBe(10_000);
  queue.active.advance(10_000);
  expect(receive(queue, 10_000).message.deliveryCount).toBe(1);
});

test("C4: a defer adds to the count, and so do abandon and defer of a deferred message", () => {
  const queue = testQueue();
  queue.send([content("a")], 0);
  queue.active.defer(receive(queue, 0).lockToken, 0);
  const [first] = queue.active.receiveDeferred([1], 0);
  expect(first?.message.deliveryCount).toBe(1);
  queue.active.abandon(first?.lockToken ?? "", 0);
  const [second] = queue.active.receiveDeferred([1], 0);
  expect(second?.message.deliveryCount).toBe(2);
  queue.active.defer(second?.lockToken ?? "", 0);
  expect(queue.active.peek(0, 1)).toMatchObject([{ deliveryCount: 3, state: "deferred" }]);
});

test("C5: of ten deliveries the counts are 0 to 9, and the tenth failure makes a dead letter with count 10", () => {
  const queue = testQueue({ maxDeliveryCount: 10 });
  queue.send([content("a")], 0);
  const counts = [];
  for (let received = queue.active.receive(0); received; received = queue.active.receive(0)) {
    counts.push(received.message.deliveryCount);
    queue.active.abandon(received.lockToken, 0);
  }
  expect(counts).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(queue.deadLetters.receive(0)?.message).toMatchObject({
    deliveryCount: 10,
    changes: {
      DeadLetterReason: "MaxDeliveryCountExceeded",
      DeadLetterErrorDescription: "Message could not be consumed after 10 delivery attempts.",
    },
  });
});

test("C6: an explicit dead letter keeps its count, number and time", () => {
  const queue = testQueue();
  queue.send([content("first"), content("a")], 5);
  receive(queue, 6);
  queue.active.deadLetter(receive(queue, 6).lockToken, 7, { reason: "why", description: "because", properties: { extra: 1 } });
  expect(queue.deadLetters.peek(0, 1)).toMatchObject([{
    deliveryCount: 0,
    sequenceNumber: 2,
    enqueuedSequenceNumber: 0,
    enqueuedAt: 5,
    deadLetterSource: undefined,
    changes: { DeadLetterReason: "why", DeadLetterErrorDescription: "because", extra: 1 },
  }]);
});

test("C7: in the dead letters neither abandon nor lock expiry nor defer adds to the count", () => {
  const queue = testQueue({ maxDeliveryCount: 1 });
  queue.send([content("a")], 0);
  queue.active.deadLetter(receive(queue, 0).lockToken, 0, {});
  queue.deadLetters.abandon(queue.deadLetters.receive(0)?.lockToken ?? "", 0);
  queue.deadLetters.receive(0);
  queue.deadLetters.advance(10_000);
  queue.deadLetters.defer(queue.deadLetters.receive(10_000)?.lockToken ?? "", 10_000);
  expect(queue.deadLetters.receiveDeferred([1], 10_000)).toMatchObject([{ message: { deliveryCount: 0 } }]);
});

test("C8: a dead letter can't be dead-lettered, and keeps its lock and count", () => {
  const queue = testQueue();
  queue.send([content("a")], 0);
  queue.active.deadLetter(receive(queue, 0).lockToken, 0, {});
  const lockToken = queue.deadLetters.receive(0)?.lockToken ?? "";
  expect(() => queue.deadLetters.deadLetter(lockToken, 0, {})).toThrow(
    expect.objectContaining({ condition: "amqp:not-allowed" }),
  );
  queue.deadLetters.complete(lockToken, 0);
  expect(queue.counts().deadLettered).toBe(0);
});

test("C11: properties of an abandon are added, and replace those that are there", () => {
  const queue = testQueue();
  queue.send([content("a")], 0);
  queue.active.abandon(receive(queue, 0).lockToken, 0, { one: 1, two: 2 });
  queue.active.abandon(receive(queue, 0).lockToken, 0, { two: "b", three: 3 });
  expect(receive(queue, 0).message.changes).toEqual({ one: 1, two: "b", three: 3 });
});

test("C13: a lock that is over can't complete, even before the broker has noticed", () => {
  const queue = testQueue();
  queue.send([content("a")], 0);
  const { lockToken } = receive(queue, 0);
  const lost = expect.objectContaining({ condition: "com.microsoft:message-lock-lost", status: 410 });
  expect(() => queue.active.complete(lockToken, 10_000)).toThrow(lost);
  queue.active.advance(10_000);
  expect(() => queue.active.renewLock(lockToken, 10_000)).toThrow(lost);
  expect(receive(queue, 10_000).message.content.name).toBe("a");
});

test("2.6: a released message doesn't count", () => {
  const queue = testQueue({ maxDeliveryCount: 1 });
  queue.send([content("a")], 0);
  queue.active.release(receive(queue, 0).lockToken, 0);
  expect(receive(queue, 0).message.deliveryCount).toBe(0);
});

test("D1: deferred messages are received by number in the order asked for, and not otherwise", () => {
  const queue = testQueue();
  queue.send([content("a"), content("b")], 0);
  for (let received = queue.active.receive(0); received; received = queue.active.receive(0)) {
    queue.active.defer(received.lockToken, 0);
  }
  expect(queue.active.receiveDeferred([2, 1], 0).map(({ message }) => message.sequenceNumber)).toEqual([2, 1]);
  expect(queue.active.receive(0)).toBeUndefined();
});

test("D3: one unknown, locked, active or repeated number makes the whole call fail and locks nothing", () => {
  const queue = testQueue();
  queue.send([content("a"), content("b"), content("c")], 0);
  queue.active.defer(receive(queue, 0).lockToken, 0);
  queue.active.defer(receive(queue, 0).lockToken, 0);
  queue.active.receiveDeferred([2], 0);
  const notFound = expect.objectContaining({ condition: "com.microsoft:message-not-found", status: 404 });
  for (const numbers of [[1, 99], [1, 2], [1, 3], [1, 1]]) {
    expect(() => queue.active.receiveDeferred(numbers, 0)).toThrow(notFound);
  }
  expect(queue.active.receiveDeferred([1], 0)).toHaveLength(1);
});

test("D4: a deferred message taken and not locked is gone, with deliveryCount 1", () => {
  const queue = testQueue();
  queue.send([content("a")], 0);
  queue.active.defer(receive(queue, 0).lockToken, 0);
  expect(queue.active.takeDeferred([1], 0)).toMatchObject([{ deliveryCount: 1 }]);
  expect(queue.bytes).toBe(0);
});

test("P1: peek shows active, locked, deferred and scheduled messages, in order, from a number on", () => {
  const queue = testQueue();
  queue.send([content("deferred"), content("locked"), content("active"), content("later", { scheduledFor: 1_000 })], 0);
  queue.active.defer(receive(queue, 0).lockToken, 0);
  receive(queue, 0);
  expect(queue.active.peek(0, 10).map(({ content: { name }, state }) => [name, state])).toEqual([
    ["deferred", "deferred"],
    ["locked", "active"],
    ["active", "active"],
    ["later", "scheduled"],
  ]);
  expect(queue.active.peek(3, 1).map(({ content: { name } }) => name)).toEqual(["active"]);
});

test("P1: dead letters are peeked in order of their numbers, whatever order they came in", () => {
  const queue = testQueue();
  queue.send([content("a"), content("b"), content("c")], 0);
  const [a, b, c] = [receive(queue, 0), receive(queue, 0), receive(queue, 0)];
  for (const { lockToken } of [c, a, b]) queue.active.deadLetter(lockToken, 0, {});
  expect(queue.deadLetters.peek(0, 10).map(({ content: { name } }) => name)).toEqual(["a", "b", "c"]);
});

test("T1: a scheduled message is enqueued when its time has come, under a new number", () => {
  const queue = testQueue();
  expect(queue.send([content("later", { scheduledFor: 1_000 }), content("now")], 0)).toEqual([1, 2]);
  expect(receive(queue, 0).message.content.name).toBe("now");
  expect(queue.nextDeadline()).toBe(1_000);
  queue.active.advance(1_000);
  expect(receive(queue, 1_000).message).toMatchObject({ sequenceNumber: 3, enqueuedAt: 1_000, scheduledFor: 1_000 });
});

test("T2: a time in the past is accepted, and the message is there at once", () => {
  const queue = testQueue();
  expect(queue.send([content("a", { scheduledFor: 5 })], 10)).toEqual([1]);
  expect(receive(queue, 10).message.content.name).toBe("a");
});

test("T3, T4: a cancelled message never comes; an unknown number cancels none", () => {
  const queue = testQueue();
  queue.send([content("a", { scheduledFor: 1_000 }), content("b", { scheduledFor: 1_000 })], 0);
  expect(() => queue.active.cancelScheduled([1, 7])).toThrow("Messages not found. Missing sequence numbers: 7");
  queue.active.cancelScheduled([1]);
  expect(() => queue.active.cancelScheduled([1])).toThrow();
  queue.active.advance(1_000);
  expect(receive(queue, 1_000).message.content.name).toBe("b");
  expect(queue.active.receive(1_000)).toBeUndefined();
});

test("L1: a renewal resets the lock to the full duration and doesn't add to it", () => {
  const queue = testQueue();
  queue.send([content("a")], 0);
  const { lockToken } = receive(queue, 0);
  expect(queue.active.renewLock(lockToken, 4_000)).toBe(14_000);
  queue.active.advance(13_999);
  queue.active.complete(lockToken, 13_999);
  expect(queue.footprint().timers).toBe(0);
});

test("2.3: locked and deferred messages count as active, scheduled and dead ones don't", () => {
  const queue = testQueue();
  queue.send(["a", "b", "c", "d"].map((name) => content(name)), 0);
  queue.send([content("later", { scheduledFor: 9 })], 0);
  queue.active.defer(receive(queue, 0).lockToken, 0);
  queue.active.deadLetter(receive(queue, 0).lockToken, 0, {});
  receive(queue, 0);
  expect(queue.counts()).toEqual({ active: 3, scheduled: 1, deadLettered: 1 });
});

test("2.7: an expired message is dropped, or dead-lettered where the queue says so", () => {
  for (const deadLetteringOnMessageExpiration of [false, true]) {
    const queue = testQueue({ deadLetteringOnMessageExpiration });
    queue.send([content("a", { timeToLiveMs: 100 })], 0);
    expect(queue.active.receive(100)).toBeUndefined();
    expect(queue.deadLetters.peek(0, 1)).toMatchObject(
      deadLetteringOnMessageExpiration ? [{ changes: { DeadLetterReason: "TTLExpiredException" } }] : [],
    );
    expect(queue.active.size).toBe(0);
  }
});

test("2.7: while nobody listens, expired messages stay, and peek shows them", () => {
  const queue = testQueue();
  queue.send([content("a", { timeToLiveMs: 100 })], 0);
  queue.active.advance(1_000);
  expect(queue.active.peek(0, 1)).toHaveLength(1);
  queue.active.listeners = 1;
  expect(queue.nextDeadline()).toBe(100);
  queue.active.advance(1_000);
  expect(queue.active.peek(0, 1)).toEqual([]);
});

test("2.7: the queue's default cuts what a message asks for", () => {
  const queue = testQueue({ defaultMessageTimeToLiveMs: 50 });
  queue.send([content("a", { timeToLiveMs: 100 })], 0);
  expect(queue.active.receive(50)).toBeUndefined();
});

test("2.7: a lock puts expiry off: the message can be completed, and is gone if it comes back", () => {
  const queue = testQueue();
  queue.active.listeners = 1;
  queue.send([content("a", { timeToLiveMs: 100 }), content("b", { timeToLiveMs: 100 })], 0);
  const [a, b] = [receive(queue, 0), receive(queue, 0)];
  queue.active.advance(200);
  queue.active.complete(a.lockToken, 200);
  queue.active.abandon(b.lockToken, 200);
  expect(queue.active.size).toBe(0);
});

test("2.7: the time to live of a scheduled message begins when it is enqueued", () => {
  const queue = testQueue();
  queue.send([content("a", { timeToLiveMs: 100, scheduledFor: 1_000 })], 0);
  queue.active.advance(1_000);
  expect(receive(queue, 1_099).message.expiresAt).toBe(1_100);
});

test("2.7: an expired deferred message stays, but can't be received: trying makes it a dead letter", () => {
  const queue = testQueue({ deadLetteringOnMessageExpiration: true });
  queue.active.listeners = 1;
  queue.send([content("a", { timeToLiveMs: 100 })], 0);
  queue.active.defer(receive(queue, 0).lockToken, 0);
  queue.active.advance(200);
  expect(queue.active.peek(0, 1)).toHaveLength(1);
  expect(() => queue.active.receiveDeferred([1], 200)).toThrow();
  expect(queue.counts()).toEqual({ active: 0, scheduled: 0, deadLettered: 1 });
});

test("2.7: nothing expires among the dead letters", () => {
  const queue = testQueue();
  queue.deadLetters.listeners = 1;
  queue.send([content("a", { timeToLiveMs: 100 })], 0);
  queue.active.deadLetter(receive(queue, 0).lockToken, 0, {});
  queue.deadLetters.advance(1_000);
  expect(queue.deadLetters.receive(1_000)).toBeDefined();
});

test("2.9: a duplicate is dropped with success; its number belongs to nothing; complete doesn't clear the window", () => {
  const queue = testQueue({ requiresDuplicateDetection: true, duplicateDetectionHistoryTimeWindowMs: 1_000 });
  queue.send([content("a")], 0);
  queue.active.complete(receive(queue, 0).lockToken, 0);
  const [number] = queue.send([content("a", { scheduledFor: 5_000 })], 999);
  expect(() => queue.active.cancelScheduled([number ?? 0])).toThrow();
  expect(queue.counts()).toEqual({ active: 0, scheduled: 0, deadLettered: 0 });
  queue.send([content("a")], 1_000);
  expect(queue.counts().active).toBe(1);
});

test("2.9: redelivery isn't looked at again, and ids are forgotten when their window is over", () => {
  const queue = testQueue({ requiresDuplicateDetection: true, duplicateDetectionHistoryTimeWindowMs: 1_000 });
  queue.send([content("a"), content("b")], 0);
  queue.active.abandon(receive(queue, 0).lockToken, 0);
  expect(receive(queue, 0).message.content.name).toBe("a");
  expect(queue.footprint().messageIds).toBe(2);
  queue.advance(1_000);
  expect(queue.footprint().messageIds).toBe(0);
});

test("a queue takes messages up to its size, all of a batch or none; dead letters count", () => {
  const queue = testQueue({ maxSizeInMegabytes: 1, maxMessageSizeInKilobytes: 1_024 });
  const half = content("half", { bytes: 524_288 });
  queue.send([half], 0);
  queue.active.deadLetter(receive(queue, 0).lockToken, 0, {});
  expect(() => queue.send([half, content("more")], 0)).toThrow(
    expect.objectContaining({ condition: "amqp:resource-limit-exceeded" }),
  );
  expect(queue.counts().active).toBe(0);
  queue.send([half], 0);
});

test("S5: a message larger than the limit is refused", () => {
  expect(() => testQueue().send([content("a", { bytes: 300_000 })], 0)).toThrow(
    expect.objectContaining({ condition: "amqp:link:message-size-exceeded" }),
  );
});

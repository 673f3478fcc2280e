import { fc } from "../../../test/support/seeded.ts";
import { expect, test } from "vitest";
import { content } from "./content-for-tests.ts";
import { createHeap } from "./heap.ts";
import type { LockedMessage } from "./message.ts";
import { createSequenceIndex } from "./sequence-index.ts";
import { testQueue } from "./queue-for-tests.ts";
import type { TestContent } from "./content-for-tests.ts";
import type { Subqueue } from "./subqueue.ts";

const steps = fc.array(
  fc.oneof(
    fc.record({
      step: fc.constant("send" as const),
      delay: fc.integer({ min: -5, max: 40 }),
      ttl: fc.integer({ min: 1, max: 90 }),
    }),
    fc.record({
      step: fc.constantFrom("complete", "abandon", "release", "defer", "dead-letter", "renew"),
      which: fc.nat(20),
      dead: fc.boolean(),
    }),
    fc.record({ step: fc.constantFrom("receive", "take", "receive-deferred", "cancel"), dead: fc.boolean(), which: fc.nat(20) }),
    fc.record({ step: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 30 }) }),
    fc.record({ step: fc.constant("listen" as const), listeners: fc.nat(1) }),
  ),
  { maxLength: 120 },
);

test("whatever happens, each message is in one place, is delivered to one at a time, and no trace of a settled one stays", () => {
  fc.assert(
    fc.property(steps, (list) => {
      const queue = testQueue({ lockDurationMs: 20, maxDeliveryCount: 3, deadLetteringOnMessageExpiration: true });
      /** All that were sent, and not completed, taken or cancelled since. */
      const alive = new Set<string>();
      const held: { subqueue: Subqueue<TestContent>; lock: LockedMessage<TestContent>; until: number }[] = [];
      let now = 0;
      let sent = 0;
      const own = (subqueue: Subqueue<TestContent>, lock: LockedMessage<TestContent> | undefined) => {
        if (!lock) return;
        expect(lock.message.deliveryCount).toBeLessThanOrEqual(lock.message.state === "deferred" ? Infinity : 3);
        // Nobody else may hold it under a lock that still runs.
        const name = lock.message.content.name;
        expect(held.some((other) => other.until > now && other.lock.message.content.name === name)).toBe(false);
        held.push({ subqueue, lock, until: lock.lockedUntil });
      };
      for (const step of list) {
        if (step.step === "send") {
          const name = `m${sent++}`;
          queue.send([content(name, { scheduledFor: now + step.delay, timeToLiveMs: step.ttl > 60 ? Infinity : step.ttl })], now);
          alive.add(name);
        } else if (step.step === "wait") {
          now += step.ms;
          queue.advance(now);
        } else if (step.step === "listen") {
          queue.active.listeners = step.listeners;
          queue.advance(now);
        } else {
          const subqueue = "dead" in step && step.dead ? queue.deadLetters : queue.active;
          const numbers = subqueue.peek(0, 1_000).map((message) => message.sequenceNumber);
          const number = numbers[step.which % Math.max(numbers.length, 1)] ?? 0;
          if (step.step === "receive") own(subqueue, subqueue.receive(now));
          else if (step.step === "take") {
            const taken = subqueue.take(now);
            if (taken) alive.delete(taken.content.name);
          } else if (step.step === "receive-deferred") {
            try {
              own(subqueue, subqueue.receiveDeferred([number], now)[0]);
            } catch (error) {
              expect(error).toMatchObject({ condition: "com.microsoft:message-not-found" });
            }
          } else if (step.step === "cancel") {
            const message = subqueue.peek(number, 1)[0];
            try {
              subqueue.cancelScheduled([number]);
              if (message) alive.delete(message.content.name);
            } catch (error) {
              expect(error).toMatchObject({ condition: "com.microsoft:message-not-found" });
            }
          } else {
            const [owned] = held.splice(step.which % Math.max(held.length, 1), 1);
            if (!owned) continue;
            const { lockToken, message } = owned.lock;
            try {
              if (step.step === "complete") owned.subqueue.complete(lockToken, now);
              if (step.step === "abandon") owned.subqueue.abandon(lockToken, now, { seen: now });
              if (step.step === "release") owned.subqueue.release(lockToken, now);
              if (step.step === "defer") owned.subqueue.defer(lockToken, now);
              if (step.step === "dead-letter") owned.subqueue.deadLetter(lockToken, now, { reason: "why" });
              if (step.step === "renew") held.push({ ...owned, until: owned.subqueue.renewLock(lockToken, now) });
              expect(owned.until).toBeGreaterThan(now);
              if (step.step === "complete") alive.delete(message.content.name);
            } catch (error) {
              if (owned.until > now) {
                expect(error).toMatchObject({ condition: "amqp:not-allowed" });
                held.push(owned); // a dead letter that was to be dead-lettered stays locked
              } else expect(error).toMatchObject({ condition: "com.microsoft:message-lock-lost" });
            }
          }
        }
        const names = [...queue.active.peek(0, 1_000), ...queue.deadLetters.peek(0, 1_000)].map((message) =>
          message.content.name
        );
        expect(names.toSorted()).toEqual([...alive].toSorted());
        const { active, scheduled, deadLettered } = queue.counts();
        expect(active + scheduled + deadLettered).toBe(alive.size);
        expect(queue.nextDeadline()).toBeGreaterThan(now);
      }
      // All locks run out, everything is taken: nothing is left behind.
      now += 1_000;
      queue.advance(now);
      for (const subqueue of [queue.active, queue.deadLetters]) {
        const deferred = subqueue.peek(0, 1_000).filter((message) => message.state === "deferred");
        for (const { sequenceNumber } of deferred) {
          try {
            subqueue.takeDeferred([sequenceNumber], now);
          } catch {
            // it had expired, and is a dead letter now
          }
        }
        while (subqueue.take(now));
      }
      expect(queue.bytes).toBe(0);
      expect(queue.footprint()).toEqual({ messages: 0, locks: 0, timers: 0, messageIds: 0 });
    }),
    { numRuns: 300 },
  );
});

test("what is sent and always abandoned is delivered exactly as often as the queue allows, in order", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 20 }), (maxDeliveryCount, count) => {
    const queue = testQueue({ maxDeliveryCount });
    queue.send(Array.from({ length: count }, (_, index) => content(`${index}`)), 0);
    const deliveries: string[] = [];
    for (let received = queue.active.receive(0); received; received = queue.active.receive(0)) {
      deliveries.push(received.message.content.name);
      queue.active.abandon(received.lockToken, 0);
    }
    expect(deliveries).toEqual(Array.from({ length: count }, (_, index) => Array(maxDeliveryCount).fill(`${index}`)).flat());
    expect(queue.counts().deadLettered).toBe(count);
  }));
});

test("a heap gives the smallest first, whatever was added and removed", () => {
  fc.assert(fc.property(fc.array(fc.record({ key: fc.nat(50), remove: fc.boolean() })), (list) => {
    const heap = createHeap<number>();
    const entries = list.map(({ key }, item) => heap.add(key, item));
    list.forEach(({ remove }, index) => {
      const entry = entries[index];
      if (remove && entry) heap.remove(entry);
    });
    const kept = list.filter(({ remove }) => !remove).map(({ key }) => key);
    const keys: number[] = [];
    for (let first = heap.first(); first; first = heap.first()) {
      keys.push(first.key);
      heap.remove(first);
    }
    expect(keys).toEqual(kept.toSorted((a, b) => a - b));
  }));
});

test("a sequence index holds what a sorted list would", () => {
  const moves = fc.array(fc.record({ sequenceNumber: fc.nat(150), add: fc.boolean() }), { maxLength: 500 });
  fc.assert(fc.property(moves, fc.nat(150), (list, from) => {
    const index = createSequenceIndex<{ sequenceNumber: number }>();
    const model = new Map<number, { sequenceNumber: number }>();
    for (const item of list) {
      const { sequenceNumber } = item;
      const known = model.get(sequenceNumber);
      if (item.add && !known) {
        index.add(item);
        model.set(sequenceNumber, item);
      } else if (!item.add && known) {
        index.remove(known);
        model.delete(sequenceNumber);
      }
      expect(index.get(sequenceNumber)).toBe(model.get(sequenceNumber));
    }
    const sorted = [...model.values()].toSorted((a, b) => a.sequenceNumber - b.sequenceNumber);
    expect(index.from(0, 1_000)).toEqual(sorted);
    expect(index.from(from, 3)).toEqual(sorted.filter((item) => item.sequenceNumber >= from).slice(0, 3));
    expect(index.size).toBe(sorted.length);
  }));
});

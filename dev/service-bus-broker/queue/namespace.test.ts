import { expect, test } from "vitest";
import { content, type TestContent } from "./content-for-tests.ts";
import { createNamespace, refuseToReceive } from "./namespace.ts";
import type { Tier } from "./tier.ts";

function testNamespace(tier: Tier = "standard") {
  let tokens = 0;
  let now = 0;
  const namespace = createNamespace<TestContent>(tier, {
    now: () => now,
    createLockToken: () => `lock-${++tokens}`,
    available() {},
    deadline() {},
  });
  return {
    ...namespace,
    advanceTo(time: number) {
      now = time;
      namespace.advance(time);
    },
  };
}

test("a name is kept in lower case and found in any", () => {
  const namespace = testNamespace();
  expect(namespace.create("Tasks", {}, 0).name).toBe("tasks");
  expect(namespace.find("TASKS")?.name).toBe("tasks");
  expect(() => namespace.create("tasks", {}, 0)).toThrow(expect.objectContaining({ status: 409 }));
});

test.each(["", "-a", "a-", "a b", "a?", "a@b", "a\\b", "x".repeat(261)])("%j is no name of a queue", (name) => {
  expect(() => testNamespace().create(name, {}, 0)).toThrow(expect.objectContaining({ status: 400 }));
});

test("2.8: a dead letter is forwarded with reason, properties and source; its number is new, the old one is told", () => {
  const namespace = testNamespace();
  namespace.create("tasks-dead", {}, 0);
  const queue = namespace.create("Tasks", { forwardDeadLetteredMessagesTo: "tasks-dead" }, 0);
  queue.send([content("other"), content("a")], 0);
  queue.active.take(0);
  queue.active.deadLetter(queue.active.receive(0)?.lockToken ?? "", 0, {
    reason: "why",
    description: "because",
    properties: { x: 1 },
  });
  expect(queue.counts().deadLettered).toBe(0);
  expect(namespace.find("tasks-dead")?.active.receive(0)?.message).toMatchObject({
    sequenceNumber: 1,
    enqueuedSequenceNumber: 2,
    deadLetterSource: "tasks",
    content: { name: "a" },
    changes: { DeadLetterReason: "why", DeadLetterErrorDescription: "because", x: 1 },
  });
});

test("2.8: dead letters of a queue that forwards them can't be received, the queue itself can", () => {
  const namespace = testNamespace();
  namespace.create("dead", {}, 0);
  const queue = namespace.create("q", { forwardDeadLetteredMessagesTo: "dead" }, 0);
  refuseToReceive(queue, queue.active);
  expect(() => refuseToReceive(queue, queue.deadLetters)).toThrow("auto-forwarding");
});

test("2.8: when the target is full, dead letters wait at the source and go when there is room", () => {
  const namespace = testNamespace();
  const dead = namespace.create("dead", { maxSizeInMegabytes: 1, maxMessageSizeInKilobytes: 2_048 }, 0);
  const queue = namespace.create("q", { forwardDeadLetteredMessagesTo: "dead" }, 0);
  dead.send([content("filler", { bytes: 1_048_576 })], 0);
  queue.send([content("a")], 0);
  queue.active.deadLetter(queue.active.receive(0)?.lockToken ?? "", 0, {});
  expect(queue.counts().deadLettered).toBe(1);
  dead.active.take(0);
  expect(namespace.nextDeadline()).toBe(1_000);
  namespace.advanceTo(1_000);
  expect(queue.counts().deadLettered).toBe(0);
  expect(dead.active.next(1_000)?.content.name).toBe("a");
});

test("A6: forwardTo set by an update forwards what comes later and what is there", () => {
  const namespace = testNamespace();
  const target = namespace.create("target", {}, 0);
  const queue = namespace.create("q", {}, 0);
  queue.send([content("a")], 0);
  namespace.update("q", { forwardTo: "target" }, 0);
  queue.send([content("b")], 0);
  queue.send([content("c", { scheduledFor: 10 })], 0);
  expect(target.counts().active).toBe(2);
  namespace.advanceTo(10);
  expect(target.active.peek(0, 9).map((message) => message.content.name)).toEqual(["a", "b", "c"]);
});

test("2.2: after four forwards a message becomes a dead letter, which isn't forwarded", () => {
  const namespace = testNamespace();
  const dead = namespace.create("dead", {}, 0);
  const a = namespace.create("a", { forwardDeadLetteredMessagesTo: "dead" }, 0);
  const b = namespace.create("b", { forwardTo: "a" }, 0);
  namespace.update("a", { forwardTo: "b" }, 0);
  a.send([content("m"), content("n")], 0);
  expect(a.deadLetters.peek(0, 9)).toMatchObject([
    { content: { name: "m" }, changes: { DeadLetterReason: "MaxTransferHopCountExceeded" } },
    { content: { name: "n" }, changes: { DeadLetterReason: "MaxTransferHopCountExceeded" } },
  ]);
  expect([b.counts().active, dead.counts().active]).toEqual([0, 0]);
});

test("2.8: a queue forwards neither to itself nor to one that isn't there", () => {
  const namespace = testNamespace();
  for (const target of ["q", "Q", "missing"]) {
    expect(() => namespace.create("q", { forwardDeadLetteredMessagesTo: target }, 0)).toThrow(
      expect.objectContaining({ status: 400 }),
    );
  }
});

test.each([
  [{ requiresDuplicateDetection: true }, "RequiresDuplicateDetection"],
  [{ autoDeleteOnIdleMs: 300_000 }, "AutoDeleteOnIdle"],
  [{ forwardTo: "other" }, "ForwardTo"],
  [{ forwardDeadLetteredMessagesTo: "other" }, "ForwardDeadLetteredMessagesTo"],
])("2.18: Basic refuses %j", (settings, property) => {
  const namespace = testNamespace("basic");
  namespace.create("other", {}, 0);
  expect(() => namespace.create("q", settings, 0)).toThrow(`The property '${property}' cannot be set`);
  namespace.create("plain", { requiresDuplicateDetection: false, lockDurationMs: 5_000 }, 0);
});

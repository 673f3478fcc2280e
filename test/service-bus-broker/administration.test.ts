import { afterAll, beforeAll, expect, test } from "vitest";
import { openBroker, openTestNamespace, receiveOne, type TestNamespace } from "./test-namespace.ts";

let namespace: TestNamespace;
beforeAll(async () => {
  namespace = await openTestNamespace();
});
afterAll(() => namespace.stop());

const forever = "P10675199DT2H48M5.4775807S";

test("A1: a queue made without options has Azure's defaults", async () => {
  expect(await namespace.admin.getQueue(await namespace.createQueue())).toMatchObject({
    lockDuration: "PT1M",
    maxDeliveryCount: 10,
    defaultMessageTimeToLive: forever,
    autoDeleteOnIdle: forever,
    duplicateDetectionHistoryTimeWindow: "PT10M",
    maxSizeInMegabytes: 1_024,
    enableBatchedOperations: true,
    requiresDuplicateDetection: false,
    requiresSession: false,
    deadLetteringOnMessageExpiration: false,
    enablePartitioning: false,
    status: "Active",
    availabilityStatus: "Available",
  });
});

test("A2: options come back as they were given, targets as addresses", async () => {
  const target = await namespace.createQueue();
  const options = {
    lockDuration: "PT45S",
    maxDeliveryCount: 7,
    defaultMessageTimeToLive: "P2DT3H",
    duplicateDetectionHistoryTimeWindow: "PT2M",
    requiresDuplicateDetection: true,
    deadLetteringOnMessageExpiration: true,
    userMetadata: "a <b> & 'c'",
  };
  const queue = await namespace.admin.getQueue(
    await namespace.createQueue({ ...options, forwardDeadLetteredMessagesTo: target }),
  );
  expect(queue).toMatchObject(options);
  expect(queue.forwardDeadLetteredMessagesTo).toMatch(new RegExp(`^sb://[^/]+/${target}$`));
});

test("A3: an existing queue is 409, a missing one not found; deleting works once", async () => {
  const { admin } = namespace;
  const name = await namespace.createQueue();
  expect(await admin.queueExists(name)).toBe(true);
  await expect(admin.createQueue(name)).rejects.toMatchObject({ statusCode: 409, code: "MessageEntityAlreadyExistsError" });
  await admin.deleteQueue(name);
  expect(await admin.queueExists(name)).toBe(false);
  const notFound = {
    code: "MessageEntityNotFoundError",
    message: expect.stringMatching(/^(The messaging entity|Entity|SubCode|No service)/),
  };
  await expect(admin.getQueue(name)).rejects.toMatchObject(notFound);
  await expect(admin.deleteQueue(name)).rejects.toMatchObject(notFound);
});

test("A4: runtime properties count active, scheduled and dead messages, and know when things happened", async () => {
  const name = await namespace.createQueue();
  const fresh = await namespace.admin.getQueueRuntimeProperties(name);
  expect(fresh).toMatchObject({
    sizeInBytes: 0,
    totalMessageCount: 0,
    activeMessageCount: 0,
    deadLetterMessageCount: 0,
    scheduledMessageCount: 0,
    transferMessageCount: 0,
    transferDeadLetterMessageCount: 0,
  });
  const client = namespace.client();
  const sender = client.createSender(name);
  await sender.sendMessages([{ body: 1 }, { body: 2 }]);
  await sender.scheduleMessages({ body: 3 }, new Date(Date.now() + 3_600_000));
  const receiver = client.createReceiver(name);
  await receiver.deadLetterMessage(await receiveOne(receiver));
  const used = await namespace.admin.getQueueRuntimeProperties(name);
  expect(used).toMatchObject({
    totalMessageCount: 3,
    activeMessageCount: 1,
    deadLetterMessageCount: 1,
    scheduledMessageCount: 1,
  });
  expect(used.sizeInBytes).toBeGreaterThan(0);
  expect(used.createdAt.getTime()).toBeLessThan(used.modifiedAt.getTime());
  expect(used.modifiedAt.getTime()).toBeLessThan(used.accessedAt.getTime());
});

test("A5: listing pages through all queues; the namespace tells its tier", async () => {
  const names = await Promise.all([1, 2, 3].map(() => namespace.createQueue()));
  const listed: string[] = [];
  for await (const page of namespace.admin.listQueues().byPage({ maxPageSize: 2 })) {
    expect(page.length).toBeLessThanOrEqual(2);
    listed.push(...page.map(({ name }) => name));
  }
  expect(listed).toEqual(expect.arrayContaining(names));
  const runtime: string[] = [];
  for await (const { name } of namespace.admin.listQueuesRuntimeProperties()) runtime.push(name);
  expect(runtime).toEqual(expect.arrayContaining(names));
  expect(await namespace.admin.getNamespaceProperties()).toMatchObject({ messagingSku: "Standard", name: expect.any(String) });
});

test("A6: forwardTo set by an update takes effect, and so does taking it away", async () => {
  const target = await namespace.createQueue();
  const name = await namespace.createQueue();
  const client = namespace.client();
  const { forwardTo: _, ...plain } = await namespace.admin.getQueue(name);
  await namespace.admin.updateQueue({ ...await namespace.admin.getQueue(name), forwardTo: target });
  await client.createSender(name).sendMessages({ body: "forwarded" });
  expect((await receiveOne(client.createReceiver(target))).body).toBe("forwarded");
  await namespace.admin.updateQueue(plain);
  await client.createSender(name).sendMessages({ body: "kept" });
  expect((await receiveOne(client.createReceiver(name))).body).toBe("kept");
});

test("A6, 2.8: a forwarded dead letter keeps id, reason and properties, and names its source in lower case", async () => {
  const target = await namespace.createQueue();
  const name = await namespace.createQueue({ forwardDeadLetteredMessagesTo: target });
  const client = namespace.client();
  const receiver = client.createReceiver(name.toUpperCase());
  await client.createSender(name).sendMessages({ body: 1, messageId: "m", applicationProperties: { x: 1 } });
  const message = await receiveOne(receiver);
  await receiver.deadLetterMessage(message, { deadLetterReason: "why", deadLetterErrorDescription: "because", y: 2 });
  const forwarded = await receiveOne(client.createReceiver(target));
  expect(forwarded).toMatchObject({
    messageId: "m",
    deadLetterReason: "why",
    deadLetterErrorDescription: "because",
    deadLetterSource: name,
    applicationProperties: { x: 1, y: 2 },
  });
  expect(forwarded.enqueuedSequenceNumber).toBe(message.sequenceNumber?.toNumber());
  await expect(client.createReceiver(name, { subQueueType: "deadLetter" }).receiveMessages(1, { maxWaitTimeInMs: 1_000 }))
    .rejects.toThrow("auto-forwarding");
});

test("A7: three messages received and abandoned are active", async () => {
  const name = await namespace.createQueue();
  const client = namespace.client();
  await client.createSender(name).sendMessages([{ body: 1 }, { body: 2 }, { body: 3 }]);
  const receiver = client.createReceiver(name);
  for (const message of [await receiveOne(receiver), await receiveOne(receiver), await receiveOne(receiver)]) {
    await receiver.abandonMessage(message);
  }
  expect((await namespace.admin.getQueueRuntimeProperties(name)).activeMessageCount).toBe(3);
});

test("2.18: a Basic namespace refuses what Basic hasn't, and has queues with schedules, dead letters and deferral", async () => {
  const own = await openBroker({ tier: "basic", queues: { q: {} } });
  try {
    expect((await own.admin.getNamespaceProperties()).messagingSku).toBe("Basic");
    await expect(own.admin.createQueue("d", { requiresDuplicateDetection: true })).rejects.toMatchObject({
      statusCode: 400,
      message: expect.stringContaining("SubCode=40000. The property 'RequiresDuplicateDetection' cannot be set"),
    });
    const client = own.client();
    const receiver = client.createReceiver("q");
    await client.createSender("q").scheduleMessages({ body: 1 }, new Date());
    await receiver.deadLetterMessage(await receiveOne(receiver));
    expect((await receiveOne(client.createReceiver("q", { subQueueType: "deadLetter" }))).body).toBe(1);
  } finally {
    await own.stop();
  }
});

test("a queue that is deleted takes its links with it", async () => {
  const name = await namespace.createQueue();
  const client = namespace.client();
  const receiver = client.createReceiver(name);
  const waiting = receiver.receiveMessages(1, { maxWaitTimeInMs: 10_000 });
  const failed = expect(waiting).rejects.toMatchObject({ code: "MessagingEntityNotFound" });
  await expect.poll(() => receiver.isClosed).toBe(false);
  await client.createSender(name).createMessageBatch();
  await new Promise((resolve) => setTimeout(resolve, 100)); // for the other link to attach: the SDK doesn't say when
  await namespace.admin.deleteQueue(name);
  await failed;
});

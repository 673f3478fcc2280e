import type { ServiceBusReceivedMessage } from "@azure/service-bus";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openBroker, receiveOne } from "./test-namespace.ts";

let own: Awaited<ReturnType<typeof openBroker>>;
beforeEach(async () => {
  own = await openBroker({ queues: { q: { lockDurationMs: 60_000 } } });
});
afterEach(() => own.stop());

const retrying = { retryOptions: { maxRetries: 5, retryDelayInMs: 10, timeoutInMs: 1_000 } };

test("R10: after the socket was dropped while idle, the same sender and receiver work on", async () => {
  const client = own.client(retrying);
  const sender = client.createSender("q");
  const receiver = client.createReceiver("q");
  await sender.sendMessages({ body: 1 });
  await receiver.completeMessage(await receiveOne(receiver));
  expect(own.broker.faults.dropConnections()).toBe(1);
  await sender.sendMessages({ body: 2 });
  expect((await receiveOne(receiver)).body).toBe(2);
  await sender.scheduleMessages({ body: 3 }, new Date(Date.now() + 60_000));
  expect((await receiver.peekMessages(9)).map(({ body }) => body)).toEqual([2, 3]);
});

test("2.5: locks outlive the connection they were taken on; another client settles with the token over $management", async () => {
  const receiver = own.client().createReceiver("q");
  const second = own.client().createReceiver("q");
  await own.client().createSender("q").sendMessages({ body: 1 });
  const message = await receiveOne(receiver);
  own.broker.faults.dropConnections();
  const [peeked] = await second.peekMessages(1);
  expect(peeked?.deliveryCount).toBe(0);
  await second.completeMessage(message);
  expect(await second.peekMessages(1, { fromSequenceNumber: message.sequenceNumber ?? peeked?.sequenceNumber as never })).toEqual(
    [],
  );
});

test("locks end with the link if that is what is wanted", async () => {
  own.broker.faults.dropLocksAtDetach = true;
  const receiver = own.client().createReceiver("q");
  await own.client().createSender("q").sendMessages({ body: 1 });
  await receiveOne(receiver);
  await receiver.close();
  expect(await receiveOne(own.client().createReceiver("q"))).toMatchObject({ body: 1, deliveryCount: 1 });
});

test.each(["dropConnections", "closeConnections", "detachLinks", "restart"] as const)(
  "a subscription survives %s",
  async (trouble) => {
    const bodies: unknown[] = [];
    own.client(retrying).createReceiver("q").subscribe({
      async processMessage({ body }: ServiceBusReceivedMessage) {
        bodies.push(body);
      },
      async processError() {},
    });
    for (const body of ["before", "after"]) {
      // A client of its own: a send in the moment of the trouble would wait for its time-out.
      await own.client().createSender("q").sendMessages({ body });
      await expect.poll(() => bodies, { timeout: 20_000 }).toContain(body);
      if (trouble === "restart") await own.broker.restart();
      else own.broker.faults[trouble]();
    }
  },
);

test("a restart keeps messages, ports and locks", async () => {
  const before = own.client();
  await before.createSender("q").sendMessages([{ body: 1 }, { body: 2 }]);
  const locked = await receiveOne(before.createReceiver("q"));
  const { port, adminPort } = own.broker;
  await own.broker.restart();
  expect([own.broker.port, own.broker.adminPort]).toEqual([port, adminPort]);
  const receiver = own.client().createReceiver("q");
  expect((await receiveOne(receiver)).body).toBe(2);
  await receiver.completeMessage(locked);
  expect((await own.admin.getQueueRuntimeProperties("q")).totalMessageCount).toBe(1);
});

test("refused sends fail so many times, and retries get over them", async () => {
  own.broker.faults.refuseSends(2);
  const sender = own.client().createSender("q");
  await expect(sender.sendMessages({ body: 1 })).rejects.toMatchObject({ code: "GeneralError" });
  await own.client(retrying).createSender("q").sendMessages({ body: 2 });
  own.broker.faults.refuseSends(true);
  await expect(sender.sendMessages({ body: 3 })).rejects.toThrow();
  own.broker.faults.refuseSends(false);
  await sender.sendMessages({ body: 4 });
});

test("2.11: a throttled namespace answers ServiceBusy in Azure's words, to sends and to requests", async () => {
  const client = own.client();
  const sender = client.createSender("q");
  await sender.sendMessages({ body: 1 });
  own.broker.faults.throttle(true);
  const busy = {
    code: "ServiceBusy",
    message: expect.stringContaining("Error code: 50009. Please wait 2 seconds and try again."),
  };
  await expect(sender.sendMessages({ body: 2 })).rejects.toMatchObject(busy);
  await expect(client.createReceiver("q").peekMessages(1)).rejects.toMatchObject(busy);
  own.broker.faults.throttle(false);
  await sender.sendMessages({ body: 3 });
});

test("a lost settlement reply leaves the client in doubt and the message gone", async () => {
  const client = own.client({ retryOptions: { maxRetries: 0, timeoutInMs: 1_000 } });
  const receiver = client.createReceiver("q");
  await client.createSender("q").sendMessages([{ body: 1 }, { body: 2 }]);
  const message = await receiveOne(receiver);
  own.broker.faults.loseSettlementReplies(1);
  await expect(receiver.completeMessage(message)).rejects.toMatchObject({ code: "ServiceTimeout" });
  await receiver.completeMessage(await receiveOne(receiver));
  expect((await own.admin.getQueueRuntimeProperties("q")).totalMessageCount).toBe(0);
});

test("a delay holds back what the broker says, in order", async () => {
  const client = own.client();
  const sender = client.createSender("q");
  await sender.sendMessages({ body: 1 });
  own.broker.faults.delayMs = 200;
  const begin = performance.now();
  await sender.sendMessages({ body: 2 });
  expect(performance.now() - begin).toBeGreaterThanOrEqual(190);
  own.broker.faults.delayMs = 0;
  const receiver = client.createReceiver("q");
  expect([(await receiveOne(receiver)).body, (await receiveOne(receiver)).body]).toEqual([1, 2]);
});

test("half open, nothing is answered, on old connections and new ones; afterwards new ones work", async () => {
  const client = own.client({ retryOptions: { maxRetries: 0, timeoutInMs: 500 } });
  const sender = client.createSender("q");
  await sender.sendMessages({ body: 1 });
  own.broker.faults.halfOpen(true);
  await expect(sender.sendMessages({ body: 2 })).rejects.toThrow();
  const during = own.client({ retryOptions: { maxRetries: 0, timeoutInMs: 500 } }).createSender("q").sendMessages({
    body: "never",
  });
  const outcome = await Promise.race([during.then(() => "sent", () => "failed"), sleep(500, "no answer")]);
  expect(outcome).not.toBe("sent");
  own.broker.faults.halfOpen(false);
  const after = own.client(retrying);
  await after.createSender("q").sendMessages({ body: 3 });
  expect((await own.admin.getQueueRuntimeProperties("q")).totalMessageCount).toBe(2);
});

test("expired locks are lost at once", async () => {
  const client = own.client();
  const receiver = client.createReceiver("q");
  await client.createSender("q").sendMessages({ body: 1 });
  const message = await receiveOne(receiver);
  own.broker.faults.expireLocks("q");
  await expect(receiver.completeMessage(message)).rejects.toMatchObject({ code: "MessageLockLost" });
  expect(await receiveOne(receiver)).toMatchObject({ deliveryCount: 1 });
});

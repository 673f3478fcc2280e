import { ServiceBusClient } from "@azure/service-bus";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ServiceBusBroker, startServiceBusBroker } from "../../dev/service-bus-broker/start.ts";
import { createServiceBusAdminClient } from "../../shared/transport/service-bus-account.ts";
import { openServiceBusTransport, type ServiceBusOptions } from "../../shared/transport/service-bus.ts";
import type { LockedMessage, Transport } from "../../shared/transport/transport.ts";

let broker: ServiceBusBroker;
const opened: Transport[] = [];
beforeAll(async () => {
  broker = await startServiceBusBroker({ queues: { "short-lock": { lockDurationMs: 1_000 } } });
});
afterAll(async () => {
  await Promise.all(opened.map((transport) => transport.close()));
  await broker.stop();
});

function open(options?: ServiceBusOptions): Transport {
  const transport = openServiceBusTransport(broker, options);
  opened.push(transport);
  return transport;
}

async function receiveOne(transport: Transport, queue: string, from?: "dead-letters"): Promise<LockedMessage> {
  for (const signal = AbortSignal.timeout(10_000); !signal.aborted;) {
    const [message] = await transport.receive(queue, { max: 1, signal, ...(from && { from }) });
    if (message) return message;
  }
  throw new Error(`nothing came from ${queue}`);
}

test("a queue that is missing is created as Service Bus needs it, and an existing one stays as it is", async () => {
  await open().provision(["made", "short-lock"]);
  await open({ lockMs: 30_000, maxDeliveryCount: 3 }).provision(["made-otherwise", "made"]);
  const administration = createServiceBusAdminClient(broker);
  expect(await administration.getQueue("made")).toMatchObject({
    lockDuration: "PT5M",
    maxDeliveryCount: 10,
    defaultMessageTimeToLive: "P14D",
    deadLetteringOnMessageExpiration: true,
    maxSizeInMegabytes: 1_024,
    requiresDuplicateDetection: false,
    enablePartitioning: false,
  });
  expect(await administration.getQueue("made-otherwise")).toMatchObject({ lockDuration: "PT30S", maxDeliveryCount: 3 });
  expect(await administration.getQueue("short-lock")).toMatchObject({ lockDuration: "PT1S" });
});

test("a message carries its type, its correlation id and its properties, for whoever looks into the broker", async () => {
  const transport = open();
  await transport.provision(["looked-into"]);
  await transport.send("looked-into", [{ messageId: "a", body: "{}", correlationId: "c1", properties: { jobId: "j1" } }]);
  const client = new ServiceBusClient(broker.connectionString);
  const [message] = await client.createReceiver("looked-into").peekMessages(1);
  expect(message).toMatchObject({
    messageId: "a",
    contentType: "application/json",
    correlationId: "c1",
    applicationProperties: { jobId: "j1" },
  });
  await client.close();
});

test("a queue that locks for a shorter time than thought is found out with its first message", async () => {
  const transport = open();
  expect(transport.lockMs).toBe(300_000);
  await transport.send("short-lock", [{ messageId: "a", body: "" }]);
  const message = await receiveOne(transport, "short-lock");
  expect(transport.lockMs).toBeLessThanOrEqual(1_000);
  await message.complete();
});

test("a message that expired is a dead letter with the broker's reason", async () => {
  const transport = open({ timeToLiveMs: 1_000 });
  await transport.provision(["short-lived"]);
  await transport.send("short-lived", [{ messageId: "a", body: "" }]);
  await sleep(1_100);
  // Service Bus looks for expired messages when somebody receives.
  expect(await transport.receive("short-lived", { max: 1, signal: AbortSignal.timeout(1_000) })).toEqual([]);
  const dead = await receiveOne(transport, "short-lived", "dead-letters");
  expect(dead).toMatchObject({ messageId: "a", deadLettered: { reason: "TTLExpiredException" } });
  await dead.complete();
});

test("what comes for a receive that was aborted goes back at once, if nobody receives after it", async () => {
  const stopping = open();
  await stopping.provision(["given-back"]);
  const abort = new AbortController();
  const receive = stopping.receive("given-back", { max: 10, signal: abort.signal });
  await sleep(300);
  abort.abort();
  expect(await receive).toEqual([]);
  const other = open();
  await other.send("given-back", [{ messageId: "a", body: "" }]); // locked for five minutes, if it weren't given back
  await (await receiveOne(other, "given-back")).complete();
});

test("a queue that isn't there is named, and asked for only once", async () => {
  const startedAt = performance.now();
  const { signal } = new AbortController();
  await expect(open().receive("nowhere", { max: 1, signal })).rejects.toThrow(/receiving from nowhere.*MessagingEntityNotFound/);
  await expect(open().send("nowhere", [{ messageId: "a", body: "" }])).rejects.toThrow(/nowhere.*MessagingEntityNotFound/);
  await expect(open().counts("nowhere")).rejects.toThrow(/nowhere/);
  expect(performance.now() - startedAt).toBeLessThan(3_000);
});

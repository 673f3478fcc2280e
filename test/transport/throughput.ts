// Prints how many messages per second each transport moves on this machine: 2,000 sent in batches of 100, then received and
// completed by 4 receivers of 32. Run it with `node test/transport/throughput.ts [name…]`.
import { randomUUID } from "node:crypto";
import { startServiceBusBroker } from "../../dev/service-bus-broker/start.ts";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import { openMemoryTransport } from "../../shared/transport/memory.ts";
import { openServiceBusTransport } from "../../shared/transport/service-bus.ts";
import { openStorageQueueTransport } from "../../shared/transport/storage-queue.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import { startAzurite } from "../support/azurite.ts";
import { startPostgres } from "../support/postgres.ts";
import { redisIsInstalled, startRedis } from "../support/redis.ts";

const messageCount = 2_000;
const batchSize = 100;
const receiverCount = 4;

const brokers: Readonly<Record<string, () => Promise<{ transport: Transport; stop(): Promise<void> }>>> = {
  "memory": async () => ({ transport: openMemoryTransport(), stop: async () => {} }),
  "storage-queue": async () => {
    const azurite = await startAzurite();
    return { transport: openStorageQueueTransport(azurite), stop: azurite.stop };
  },
  "service-bus": async () => {
    const broker = await startServiceBusBroker();
    return { transport: openServiceBusTransport(broker), stop: broker.stop };
  },
  "bullmq-postgres": async () => {
    const postgres = await startPostgres();
    return { transport: openBullmqTransport({ databaseUrl: postgres.url }), stop: postgres.stop };
  },
  ...(redisIsInstalled() && {
    "bullmq-redis": async () => {
      const redis = await startRedis();
      return { transport: openBullmqTransport({ redisUrl: redis.url }), stop: redis.stop };
    },
  }),
};

const chosen = process.argv.slice(2);
for (const [name, start] of Object.entries(brokers)) {
  if (chosen.length > 0 && !chosen.includes(name)) continue;
  const { transport, stop } = await start();
  await transport.provision(["throughput"]);
  const sendMs = await timed(() => sendAll(transport));
  const receiveMs = await timed(() => receiveAll(transport));
  console.log(`${name.padEnd(16)} send ${perSecond(sendMs)}/s   receive and complete ${perSecond(receiveMs)}/s`);
  await transport.close();
  await stop();
}

async function sendAll(transport: Transport): Promise<void> {
  for (let sent = 0; sent < messageCount; sent += batchSize) {
    const batch = Array.from(
      { length: batchSize },
      () => ({ messageId: randomUUID(), body: JSON.stringify({ taskIds: ["1234567"], jobId: "a".repeat(64) }) }),
    );
    await transport.send("throughput", batch);
  }
}

async function receiveAll(transport: Transport): Promise<void> {
  let completed = 0;
  const done = new AbortController();
  const receiver = async () => {
    while (!done.signal.aborted) {
      const messages = await transport.receive("throughput", { max: 32, signal: done.signal });
      await Promise.all(messages.map((message) => message.complete()));
      completed += messages.length;
      if (completed >= messageCount) done.abort();
    }
  };
  await Promise.all(Array.from({ length: receiverCount }, receiver));
}

async function timed(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

function perSecond(ms: number): string {
  return Math.round(messageCount / ms * 1_000).toLocaleString("en").padStart(7);
}

import { Redis } from "ioredis";
import pg from "pg";
import { describe, expect, inject, test } from "vitest";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import { redisIsInstalled, startRedis } from "../support/redis.ts";

const queues = ["jobs", "stages", "tasks"];

test("ten processes may start on a new database at once, and each holds at most ten connections", async () => {
  const admin = new pg.Client(inject("postgresUrl"));
  await admin.connect();
  await admin.query("create database bullmq_start");
  const databaseUrl = new URL("/bullmq_start", inject("postgresUrl")).href;
  const transports = Array.from({ length: 10 }, () => openBullmqTransport({ databaseUrl }));
  await Promise.all(transports.map((transport) => transport.provision(queues)));
  for (const transport of transports) await sendAndReceive(transport);
  const { rows } = await admin.query(
    "select from pg_stat_activity where application_name = 'sluice-bullmq' and datname = 'bullmq_start'",
  );
  expect(rows.length).toBeGreaterThan(0);
  expect(rows.length).toBeLessThanOrEqual(10 * transports.length);
  await Promise.all(transports.map((transport) => transport.close()));
  await admin.query("drop database bullmq_start");
  await admin.end();
});

describe.skipIf(!redisIsInstalled())("with a redis-server", () => {
  test("a process holds one connection, and one for each queue it waits for", async () => {
    const redis = await startRedis();
    const admin = new Redis(redis.url);
    const transport = openBullmqTransport({ redisUrl: redis.url });
    await sendAndReceive(transport);
    for (const queue of queues) await transport.receive(queue, { max: 1, signal: AbortSignal.timeout(50) });
    const clients = String(await admin.client("LIST")).trim().split("\n");
    expect(clients).toHaveLength(1 + 1 + queues.length);
    await transport.close();
    admin.disconnect();
    await redis.stop();
  });
});

async function sendAndReceive(transport: Transport): Promise<void> {
  for (const queue of queues) {
    await transport.send(queue, [{ messageId: "a", body: "b" }]);
    const [message] = await transport.receive(queue, { max: 1, signal: AbortSignal.timeout(5_000) });
    await message?.complete();
  }
}

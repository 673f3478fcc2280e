import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createBullmqTarget } from "../../shared/provision/bullmq.ts";
import { type Mode, provision } from "../../shared/provision/provision.ts";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { redisIsInstalled, startRedis } from "../support/redis.ts";
import { Redis } from "ioredis";

let postgres: PostgresServer;
let admin: pg.Client;
beforeAll(async () => {
  postgres = await startPostgres();
  admin = new pg.Client(postgres.url);
  await admin.connect();
});
afterAll(async () => {
  await admin.end();
  await postgres.stop();
});

/** The URL of an empty database. */
async function createDatabase(name: string): Promise<string> {
  await admin.query(`create database ${name}`);
  return urlOf(`/${name}`);
}

function urlOf(path: string): string {
  return new URL(path, postgres.url).href;
}

async function run(databaseUrl: string, mode: Mode) {
  return await provision([createBullmqTarget({ databaseUrl })], mode);
}

test("on PostgreSQL the schema is made by five at once, and then nothing is left to do", async () => {
  const url = await createDatabase("fresh");
  expect(await run(url, "check")).toMatchObject([{ target: "bullmq", outcome: "missing" }]);
  expect(await run(url, "check")).toMatchObject([{ outcome: "missing" }]);
  const runs = await Promise.all(Array.from({ length: 5 }, () => run(url, "create")));
  for (const { outcome } of runs.flat()) expect(["created", "as wanted"]).toContain(outcome);
  expect(await run(url, "check")).toMatchObject([{ outcome: "as wanted", differences: [] }]);
  const transport = openBullmqTransport({ databaseUrl: url });
  await transport.send("tasks", [{ messageId: "a", body: "{}" }]);
  expect(await transport.counts("tasks")).toEqual({ active: 1, deadLettered: 0 });
  await transport.close();
});

test("on PostgreSQL what fails is named: server, database, rights", async () => {
  expect(await run("postgres://nobody:secret@127.0.0.1:1/bullmq", "create")).toMatchObject([{
    cause: expect.stringMatching(/^127\.0\.0\.1:1\/bullmq: the connection was refused/),
  }]);
  expect(await run(urlOf("/absent"), "create")).toMatchObject([{
    cause: expect.stringMatching(/^127\.0\.0\.1:\d+\/absent: database "absent" does not exist$/),
  }]);
  const url = new URL(await createDatabase("closed"));
  await admin.query("create role reader login password 'reader-secret'");
  url.username = "reader";
  url.password = "reader-secret";
  const [finding] = await run(url.href, "create");
  expect(finding).toMatchObject({ outcome: "failed", cause: expect.stringMatching(/permission denied for database closed$/) });
  expect(finding?.cause).not.toContain("reader-secret");
});

test.skipIf(!redisIsInstalled())("of Redis it is said what may lose or evict messages, and nothing is changed", async () => {
  const { url, stop } = await startRedis();
  const redis = new Redis(url);
  const runRedis = (mode: Mode, redisUrl = url) => provision([createBullmqTarget({ redisUrl })], mode);
  try {
    expect(await runRedis("check")).toMatchObject([{ resource: "Redis", outcome: "as wanted" }]);
    await redis.config("SET", "maxmemory-policy", "allkeys-lru");
    expect(await runRedis("update")).toMatchObject([{
      outcome: "different",
      differences: [{ setting: "maxmemory-policy", wanted: "noeviction", found: "allkeys-lru", remedy: "configure" }],
    }]);
    await redis.config("SET", "maxmemory-policy", "noeviction");
    await redis.config("SET", "appendonly", "no");
    expect(await runRedis("check")).toMatchObject([{
      outcome: "different",
      differences: [{ setting: "appendonly", wanted: "yes", found: "no", remedy: "configure" }],
    }]);
    const [wrong] = await runRedis("check", url.replace("redis://", "redis://user:guess@"));
    expect(wrong?.cause).toMatch(/^127\.0\.0\.1:\d+: WRONGPASS/);
    expect(wrong?.cause).not.toContain("guess");
  } finally {
    redis.disconnect();
    await stop();
  }
  expect(await runRedis("check")).toMatchObject([{ cause: expect.stringMatching(/the connection was refused/) }]);
});

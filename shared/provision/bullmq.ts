import { Redis } from "ioredis";
import { LATEST_SCHEMA_VERSION } from "bullmq";
import type { BullmqConnection } from "../transport/bullmq.ts";
import { createPool, migrate, readSchemaVersion } from "../transport/bullmq-postgres.ts";
import type { Difference, Target } from "./target.ts";

/** Queues come into being with their first message: what can be missing or wrong is below them. */
export function createBullmqTarget(connection: BullmqConnection): Target {
  return "redisUrl" in connection ? createRedisTarget(connection.redisUrl) : createPostgresTarget(connection.databaseUrl);
}

/** The schema that all queues are in. */
function createPostgresTarget(databaseUrl: string): Target {
  const pool = createPool(databaseUrl);
  const { host, pathname } = new URL(databaseUrl);
  return {
    name: "bullmq",
    place: `${host}${pathname}`,
    async open() {
      return [[{
        name: `schema bullmq, version ${LATEST_SCHEMA_VERSION}`,
        inspect: async () => await readSchemaVersion(pool) < LATEST_SCHEMA_VERSION ? undefined : [],
        create: () => migrate(pool),
      }]];
    },
    explain: () => undefined, // PostgreSQL's texts are one line, and name what they are about
    close: () => pool.end(),
  };
}

/** How Redis must be configured (docs/transports.md). */
function createRedisTarget(redisUrl: string): Target {
  const redis = new Redis(redisUrl, {
    lazyConnect: true,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
    connectTimeout: 10_000,
    commandTimeout: 10_000,
  });
  let lastError: Error | undefined;
  redis.on("error", (error: Error) => lastError = error);
  return {
    name: "bullmq",
    place: new URL(redisUrl).host,
    async open() {
      // When it can't connect, ioredis says no more than that its connection is closed.
      await redis.connect().catch((error: Error) => {
        throw lastError ?? error;
      });
      return [[{
        name: "Redis",
        inspect: async () => listDifferences(await redis.info("memory"), await redis.info("persistence")),
      }]];
    },
    explain: () => undefined,
    async close() {
      redis.disconnect();
    },
  };
}

function listDifferences(...info: readonly string[]): readonly Difference[] {
  const said = new Map(info.join("\n").split(/\r?\n/).map((line) => line.split(":", 2) as [string, string]));
  const settings = [
    { setting: "maxmemory-policy", wanted: "noeviction", found: said.get("maxmemory_policy") ?? "unknown" },
    { setting: "appendonly", wanted: "yes", found: said.get("aof_enabled") === "1" ? "yes" : "no" },
  ];
  return settings.filter(({ wanted, found }) => wanted !== found).map((each) => ({ ...each, remedy: "configure" }));
}

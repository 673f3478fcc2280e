import {
  assertSchemaCompatibility,
  createPostgresBackend,
  type IQueueBackend,
  LATEST_SCHEMA_VERSION,
  type PgPool,
  type PgPoolClient,
  type PostgresQueueBackend,
  runMigrations,
  SchemaMigrationRequiredError,
} from "bullmq";
import pg from "pg";
import { arrivalSeconds, type BackendOptions, type BullmqBroker, type BullmqLocks } from "./bullmq-broker.ts";

/** Nine for commands, and one that listens. */
const connections = 10;

/**
 * BullMQ's PostgreSQL backend, in the schema `bullmq`, which is made or brought up to date when first used. BullMQ takes an advisory
 * lock for that, so any number of processes may start at once. Times of locks come from the clock of each process.
 */
export function openPostgresBroker(databaseUrl: string, locks: BullmqLocks): BullmqBroker {
  const pool = createPool(databaseUrl);
  const backends = new Map<string, IQueueBackend>();
  let opening: Promise<PostgresQueueBackend> | undefined;

  async function open(): Promise<PostgresQueueBackend> {
    await migrate(pool);
    const options: BackendOptions<PgPool> = { ...locks, connection: pool };
    const root = createPostgresBackend("sluice", options);
    root.on("error", () => {}); // every query that fails by it rejects
    await root.waitUntilReady();
    return root;
  }

  async function backendOf(queue: string): Promise<IQueueBackend> {
    // BullMQ remembers a failed start for ever; we forget it, and the next call tries again.
    opening ??= open().catch((error) => {
      opening = undefined;
      throw error;
    });
    const root = await opening;
    const backend = backends.get(queue) ?? root.forQueue(queue);
    backends.set(queue, backend);
    return backend;
  }

  return {
    backend: backendOf,
    async arrival(queue) {
      const backend = await backendOf(queue);
      // Backends made by `forQueue` are not told when the connection that listens was replaced: this makes each wait listen anew.
      await backend.reconnectBlocking();
      await backend.waitForJob(arrivalSeconds);
    },
    async close() {
      const root = await opening?.catch(() => undefined);
      for (const backend of backends.values()) await backend.disconnectBlocking();
      await root?.close();
      await pool.end();
    },
  };
}

/** Connects with the first query. */
export function createPool(databaseUrl: string): PgPool {
  // BullMQ declares the pool it wants in its own words; this is one, though the types of `pg` say it otherwise.
  return new pg.Pool({
    connectionString: databaseUrl,
    max: connections,
    connectionTimeoutMillis: 5_000,
    query_timeout: 15_000,
    keepAlive: true,
    options: "-c search_path=bullmq",
    application_name: "sluice-bullmq",
  }) as unknown as PgPool;
}

/** Makes the schema, or brings it up to date. Harmless if several do so at once. */
export async function migrate(pool: PgPool): Promise<void> {
  await withClient(pool, async (client) => {
    if (await schemaVersion(client) < LATEST_SCHEMA_VERSION) await runMigrations(client);
  });
}

/** 0: there is no schema. Rejects if this BullMQ is too old for it. */
export async function readSchemaVersion(pool: PgPool): Promise<number> {
  return await withClient(pool, schemaVersion);
}

async function withClient<Result>(pool: PgPool, use: (client: PgPoolClient) => Promise<Result>): Promise<Result> {
  const client = await pool.connect();
  let failure: unknown;
  try {
    return await use(client);
  } catch (error) {
    failure = error;
    throw error;
  } finally {
    client.release(failure !== undefined);
  }
}

async function schemaVersion(client: PgPoolClient): Promise<number> {
  try {
    return await assertSchemaCompatibility(client);
  } catch (error) {
    if (error instanceof SchemaMigrationRequiredError) return 0;
    throw error;
  }
}

import { startServiceBusBroker } from "../../dev/service-bus-broker/start.ts";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import { openServiceBusTransport } from "../../shared/transport/service-bus.ts";
import { openStorageQueueTransport } from "../../shared/transport/storage-queue.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import { startAzurite } from "./azurite.ts";
import { startPostgres } from "./postgres.ts";
import { redisIsInstalled, startRedis } from "./redis.ts";

/** A real broker of the test's own. */
export interface Broker {
  open(): Transport;
  /** What a service needs to reach it. */
  readonly environment: Record<string, string>;
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** Every broker that the pipeline has to run on. Where there is no redis-server, that one is skipped, loudly. */
export const brokers: readonly { name: string; missing: boolean; start(): Promise<Broker> }[] = [
  { name: "bullmq on PostgreSQL", missing: false, start: startBullmqOnPostgres },
  { name: "bullmq on Redis", missing: !redisIsInstalled(), start: startBullmqOnRedis },
  { name: "storage-queue", missing: false, start: startStorageQueue },
  { name: "service-bus", missing: false, start: startServiceBus },
];

async function startBullmqOnPostgres(): Promise<Broker> {
  const { url, restart, stop } = await startPostgres();
  return {
    open: () => openBullmqTransport({ databaseUrl: url }, { lockMs: 5_000 }),
    environment: { TRANSPORTS: "bullmq", BULLMQ_DATABASE_URL: url },
    restart,
    stop,
  };
}

async function startBullmqOnRedis(): Promise<Broker> {
  const { url, restart, stop } = await startRedis();
  return {
    open: () => openBullmqTransport({ redisUrl: url }, { lockMs: 5_000 }),
    environment: { TRANSPORTS: "bullmq", REDIS_URL: url },
    restart,
    stop,
  };
}

/** The development broker, in this process; its queues lock as long as those of the others. */
async function startServiceBus(): Promise<Broker> {
  const { connectionString, adminConnectionString, restart, stop } = await startServiceBusBroker();
  return {
    open: () => openServiceBusTransport({ connectionString, adminConnectionString }, { lockMs: 5_000 }),
    environment: {
      TRANSPORTS: "service_bus",
      AZURE_SERVICE_BUS_CONNECTION_STRING: connectionString,
      SERVICE_BUS_ADMIN_CONNECTION_STRING: adminConnectionString,
    },
    restart,
    stop,
  };
}

async function startStorageQueue(): Promise<Broker> {
  const { connectionString, restart, stop } = await startAzurite();
  return {
    open: () => openStorageQueueTransport({ connectionString }, { lockMs: 5_000 }),
    environment: { TRANSPORTS: "storage_queue", AZURE_STORAGE_CONNECTION_STRING: connectionString },
    restart,
    stop,
  };
}

import { type AzureStorage, openAzureStorage } from "../azure-storage.ts";
import type { Logger } from "pino";
import { type CommonEnvironment, readQueues } from "../environment.ts";
import type { JobCatalog } from "../jobs/catalog.ts";
import { openTransport, type TransportConfig } from "./open.ts";
import { listQueueNames } from "./queue-names.ts";
import type { Transports } from "./send-batches.ts";

/** Opens every transport that the environment enables. Nothing is connected before the first call. */
export function openTransports(
  environment: CommonEnvironment,
  azure: AzureStorage = openAzureStorage(environment),
  log?: Logger,
): Transports {
  const config = { ...createTransportConfig(environment, azure), ...(log && { log }) };
  return new Map(
    [...readQueues(environment)].map(([name, queues]) => [name, { transport: openTransport(name, config), queues }]),
  );
}

export async function closeTransports(transports: Transports): Promise<void> {
  await Promise.all([...transports.values()].map(({ transport }) => transport.close()));
}

/** Creates the queues of these transports that are missing, those that stages name among them. */
export async function provisionTransports(transports: Transports, jobs: JobCatalog): Promise<void> {
  const names = listQueueNames(transports, jobs);
  await Promise.all([...transports].map(([name, { transport }]) => transport.provision(names.get(name) ?? [])));
}

function createTransportConfig(environment: CommonEnvironment, azure: AzureStorage): TransportConfig {
  const { REDIS_URL, BULLMQ_DATABASE_URL, DATABASE_URL, TRANSPORTS } = environment;
  return {
    ...(TRANSPORTS.includes("service_bus") && { serviceBus: { account: azure.serviceBusAccount() } }),
    ...(TRANSPORTS.includes("storage_queue") && { storageQueue: azure.queueAccount() }),
    bullmq: REDIS_URL ? { redisUrl: REDIS_URL } : { databaseUrl: BULLMQ_DATABASE_URL ?? DATABASE_URL },
  };
}

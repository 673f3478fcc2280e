import { type AzureStorage, openAzureStorage } from "../azure-storage.ts";
import type { Logger } from "pino";
import { type CommonEnvironment, readQueues } from "../environment.ts";
import { openTransport, type TransportConfig } from "./open.ts";
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

/** Creates the queues of these transports that are missing. */
export async function provisionTransports(transports: Transports): Promise<void> {
  await Promise.all([...transports.values()].map(({ transport, queues }) => transport.provision(Object.values(queues))));
}

function createTransportConfig(environment: CommonEnvironment, azure: AzureStorage): TransportConfig {
  const { REDIS_URL, BULLMQ_DATABASE_URL, DATABASE_URL, TRANSPORTS } = environment;
  const { AZURE_SERVICE_BUS_MAX_RETRIES: maxDeliveryCount, AZURE_SERVICE_BUS_MESSAGE_TTL: timeToLiveSeconds } = environment;
  return {
    ...(TRANSPORTS.includes("service_bus") && {
      serviceBus: {
        account: azure.serviceBusAccount(),
        ...(maxDeliveryCount !== undefined && { maxDeliveryCount }),
        ...(timeToLiveSeconds !== undefined && { timeToLiveMs: timeToLiveSeconds * 1_000 }),
      },
    }),
    ...(TRANSPORTS.includes("storage_queue") && { storageQueue: azure.queueAccount() }),
    bullmq: REDIS_URL ? { redisUrl: REDIS_URL } : { databaseUrl: BULLMQ_DATABASE_URL ?? DATABASE_URL },
  };
}

import { openAzureStorage } from "../azure-storage.ts";
import { ContractError } from "../contracts/parse.ts";
import { missingSetting, readJobSettings } from "../environment.ts";
import { createAllJobs } from "../jobs/all.ts";
import { createJobCatalog } from "../jobs/catalog.ts";
import type { BullmqConnection } from "../transport/bullmq.ts";
import { listQueuesOf } from "../transport/queue-names.ts";
import { serviceBusPoisonQueue } from "../transport/queues.ts";
import type { TransportName } from "../transports.ts";
import { createBlobTarget, createStorageQueueTarget } from "./azure-storage.ts";
import { createBullmqTarget } from "./bullmq.ts";
import type { Config } from "./config.ts";
import { createServiceBusTarget, type Tier } from "./service-bus.ts";
import type { Target } from "./target.ts";

/**
 * What the services that have this environment need: the queues of their transports, those that stages name among them, and the
 * container of claim checks if they are in Blob Storage. Connects nothing. Throws an error that names the variable at fault.
 */
export function openTargets(config: Config, tier: Tier): readonly Target[] {
  const azure = openAzureStorage(config);
  const jobs = createJobCatalog(createAllJobs(readJobSettings(config)).jobs);
  const { AZURE_SERVICE_BUS_POISON_QUEUE: poisonQueue = serviceBusPoisonQueue } = config;
  const open: Readonly<Record<TransportName, (queues: readonly string[]) => Target>> = {
    service_bus: (queues) => createServiceBusTarget(azure.serviceBusAccount(), { tier, queues, poisonQueue }),
    storage_queue: (queues) => checkingStorage(() => createStorageQueueTarget(azure.queueAccount(), queues)),
    bullmq: () => createBullmqTarget(bullmqConnection(config)),
  };
  const targets = [...new Set(config.TRANSPORTS)].map((name) => open[name](listQueuesOf(name, jobs)));
  const { CLAIM_CHECK_DIRECTORY, CLAIM_CHECK_CONTAINER, AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_BLOB_URL } = config;
  if (!CLAIM_CHECK_DIRECTORY && (AZURE_STORAGE_CONNECTION_STRING || AZURE_STORAGE_BLOB_URL)) {
    targets.push(checkingStorage(() => createBlobTarget(azure.blobAccount(), CLAIM_CHECK_CONTAINER)));
  }
  return targets;
}

function bullmqConnection({ REDIS_URL, BULLMQ_DATABASE_URL, DATABASE_URL }: Config): BullmqConnection {
  if (REDIS_URL) return { redisUrl: REDIS_URL };
  const databaseUrl = BULLMQ_DATABASE_URL ?? DATABASE_URL;
  if (databaseUrl) return { databaseUrl };
  throw missingSetting("REDIS_URL", "TRANSPORTS names bullmq (or set BULLMQ_DATABASE_URL or DATABASE_URL)");
}

/** The SDK's text may repeat the connection string. */
function checkingStorage(create: () => Target): Target {
  try {
    return create();
  } catch (error) {
    if (error instanceof ContractError) throw error;
    throw new ContractError("invalid-configuration", [{
      field: "AZURE_STORAGE_CONNECTION_STRING",
      message: "is not a connection string of Azure Storage",
    }]);
  }
}

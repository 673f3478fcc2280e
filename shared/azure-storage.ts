import { DefaultAzureCredential } from "@azure/identity";
import { type BlobAccount, createBlobClient } from "./blob-storage/account.ts";
import { type BrokerEnvironment, missingSetting, serviceBusConnectionString } from "./environment.ts";
import type { ServiceBusAccount } from "./transport/service-bus-account.ts";
import type { StorageQueueAccount } from "./transport/storage-queue.ts";

/** The accounts of a process at Azure: one credential, and one Blob client, whatever shares them. */
export interface AzureStorage {
  /** Throws an error that names the variable, if the environment has none. */
  queueAccount(): StorageQueueAccount;
  blobAccount(): BlobAccount;
  serviceBusAccount(): ServiceBusAccount;
}

/** Connects nothing; a credential is made only where there is no connection string. */
export function openAzureStorage(environment: BrokerEnvironment): AzureStorage {
  const { AZURE_STORAGE_CONNECTION_STRING: connectionString, AZURE_STORAGE_QUEUE_URL, AZURE_STORAGE_BLOB_URL } = environment;
  let credential: DefaultAzureCredential | undefined;
  let blobs: BlobAccount | undefined;

  function account(accountUrl: string | undefined, variable: string, because: string) {
    if (connectionString) return { connectionString };
    if (accountUrl) return { accountUrl, credential: credential ??= new DefaultAzureCredential() };
    throw missingSetting("AZURE_STORAGE_CONNECTION_STRING", `${because} (or set ${variable})`);
  }

  return {
    queueAccount: () => account(AZURE_STORAGE_QUEUE_URL, "AZURE_STORAGE_QUEUE_URL", "TRANSPORTS names storage_queue"),
    blobAccount: () =>
      blobs ??= {
        client: createBlobClient(
          account(AZURE_STORAGE_BLOB_URL, "AZURE_STORAGE_BLOB_URL", "containers and claim checks are there"),
        ),
      },
    serviceBusAccount() {
      const connectionString = serviceBusConnectionString(environment);
      const { SERVICE_BUS_NAMESPACE: namespace, SERVICE_BUS_ADMIN_CONNECTION_STRING: adminConnectionString } = environment;
      if (connectionString) return { connectionString, ...(adminConnectionString && { adminConnectionString }) };
      if (namespace) return { namespace, credential: credential ??= new DefaultAzureCredential() };
      throw missingSetting(
        "AZURE_SERVICE_BUS_CONNECTION_STRING",
        "TRANSPORTS names service_bus (or set SERVICE_BUS_NAMESPACE)",
      );
    },
  };
}

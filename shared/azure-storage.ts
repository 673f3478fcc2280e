import { DefaultAzureCredential } from "@azure/identity";
import { type BlobAccount, createBlobClient } from "./blob-storage/account.ts";
import { type CommonEnvironment, missingSetting } from "./environment.ts";
import type { StorageQueueAccount } from "./transport/storage-queue.ts";

/** The storage account of a process: one credential, and one Blob client, whatever shares them. */
export interface AzureStorage {
  /** Throws an error that names the variable, if the environment has none. */
  queueAccount(): StorageQueueAccount;
  blobAccount(): BlobAccount;
}

/** Connects nothing; a credential is made only where there is no connection string. */
export function openAzureStorage(environment: CommonEnvironment): AzureStorage {
  const { AZURE_STORAGE_CONNECTION_STRING: connectionString, AZURE_STORAGE_QUEUE_URL, AZURE_STORAGE_BLOB_URL } = environment;
  const needsCredential = !connectionString && (AZURE_STORAGE_QUEUE_URL ?? AZURE_STORAGE_BLOB_URL);
  const credential = needsCredential ? new DefaultAzureCredential() : undefined;
  let blobs: BlobAccount | undefined;

  function account(accountUrl: string | undefined, variable: string, because: string) {
    if (connectionString) return { connectionString };
    if (accountUrl && credential) return { accountUrl, credential };
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
  };
}

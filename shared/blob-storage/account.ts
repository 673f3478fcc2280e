import type { TokenCredential } from "@azure/identity";
import { BlobServiceClient } from "@azure/storage-blob";

/** Where blobs are, or the client that is there already. */
export type BlobAccount =
  | { readonly connectionString: string }
  | { readonly accountUrl: string; readonly credential: TokenCredential }
  | { readonly client: BlobServiceClient };

/** A client whose requests are tried once: retries are decided in one place, calls.ts, which the SDK's own would multiply. */
export function createBlobClient(account: BlobAccount): BlobServiceClient {
  if ("client" in account) return account.client;
  const options = { retryOptions: { maxTries: 1 } };
  return "connectionString" in account
    ? BlobServiceClient.fromConnectionString(account.connectionString, options)
    : new BlobServiceClient(account.accountUrl, account.credential, options);
}

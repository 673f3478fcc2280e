import type { BlobAccount } from "../blob-storage/account.ts";
import { createBlobClient } from "../blob-storage/account.ts";
import { createQueueServiceClient, poisonQueueOf, type StorageQueueAccount } from "../transport/storage-queue.ts";
import { statusOf } from "./cause.ts";
import type { Target } from "./target.ts";

/** Queues, each with the poison queue for its dead letters. They have no settings. */
export function createStorageQueueTarget(account: StorageQueueAccount, queues: readonly string[]): Target {
  const service = createQueueServiceClient(account);
  return {
    name: "storage_queue",
    place: placeOf(service.url),
    async open() {
      return [
        queues.flatMap((queue) => [queue, poisonQueueOf(queue)]).map((name) => {
          const client = service.getQueueClient(name);
          return {
            name,
            inspect: async () => await client.exists() ? [] : undefined,
            create: async () => void await client.createIfNotExists(),
          };
        }),
      ];
    },
    explain: (error) => explain(error, "Storage Queue Data Contributor"),
    async close() {},
  };
}

/** The container of the claim checks. */
export function createBlobTarget(account: BlobAccount, container: string): Target {
  const client = createBlobClient(account).getContainerClient(container);
  return {
    name: "blob_storage",
    place: placeOf(client.url),
    async open() {
      return [[{
        name: container,
        inspect: async () => await client.exists() ? [] : undefined,
        create: async () => void await client.createIfNotExists(),
      }]];
    },
    explain: (error) => explain(error, "Storage Blob Data Contributor"),
    async close() {},
  };
}

/** Without the query, which may be a signature. */
function placeOf(url: string): string {
  return new URL(url).host;
}

function explain(error: Error, role: string): string | undefined {
  const status = statusOf(error);
  if (status === undefined) return undefined;
  const code = codeOf(error);
  const answer = code ? `${status}, ${code}` : `${status}`;
  if (code === "AuthenticationFailed" || status === 401) return `the key or the sign-in is wrong for this account (${answer})`;
  if (code === "AuthorizationPermissionMismatch") {
    return `the right is missing: the role ${role}, or more of the signature (${answer})`;
  }
  if (code === "AuthorizationFailure" || status === 403) {
    return `refused: a wrong key, a missing right (the role ${role}), or the account's firewall (${answer})`;
  }
  if (code === "QueueBeingDeleted" || code === "ContainerBeingDeleted") {
    return `one of that name is just being deleted: try again in a minute (${answer})`;
  }
  return `storage answered ${answer}`;
}

/** The header says it where an answer has no body. */
function codeOf(error: Error): string | undefined {
  const { response, code } = error as { response?: { headers?: { get(name: string): string | undefined } }; code?: string };
  return response?.headers?.get("x-ms-error-code") ?? code;
}

import { type BlobAccount, createBlobClient } from "../blob-storage/account.ts";
import { createStorageCalls, type StorageCallOptions, StorageError } from "../blob-storage/calls.ts";
import type { ClaimCheck } from "./claim-check.ts";
import { isPlainPath, pathOfKey, unknownRef } from "./key.ts";
import { decodeLines, encodeLines } from "./ndjson.ts";

/** One request each; with Azure's 50,000 blocks to a blob, values up to 200 GB. */
const chunkBytes = 4 * 1024 * 1024;

/**
 * A claim check in a container of Azure Blob Storage, which is created at the first write if it is missing. Each chunk, up or
 * down, is a request of its own, retried by itself: no connection stays open while a planner or a reducer takes its time.
 */
export function createBlobClaimCheck(
  { container: name, ...account }: BlobAccount & { readonly container: string },
  options: Partial<StorageCallOptions> = {},
): ClaimCheck {
  const container = createBlobClient(account).getContainerClient(name);
  const calls = createStorageCalls(options);
  let created = false;

  /** Before the upload: storage may refuse a large one before it was read, and the client sees a broken connection. */
  async function createContainer(signal?: AbortSignal): Promise<void> {
    if (created) return;
    await calls.run(`create container ${name}`, (abortSignal) => container.createIfNotExists({ abortSignal }), signal);
    created = true;
  }

  return {
    async writeLines(key, lines, signal) {
      const blob = container.getBlockBlobClient(pathOfKey(key));
      const what = `store ${key} in container ${name}`;

      // Blocks of two writers under one key would replace each other, were they not named apart.
      const writer = crypto.randomUUID();
      const blockIds: string[] = [];
      try {
        await createContainer(signal);
        for await (const chunk of encodeLines(lines, chunkBytes)) {
          const blockId = Buffer.from(`${writer}-${String(blockIds.length).padStart(6, "0")}`).toString("base64");
          await calls.run(what, (abortSignal) => blob.stageBlock(blockId, chunk, chunk.length, { abortSignal }), signal);
          blockIds.push(blockId);
        }
        const blobHTTPHeaders = { blobContentType: "application/x-ndjson" };
        await calls.run(what, (abortSignal) => blob.commitBlockList(blockIds, { blobHTTPHeaders, abortSignal }), signal);
      } catch (error) {
        created = false; // perhaps somebody deleted it
        throw error;
      }
      return blob.url;
    },

    async *readLines(ref, signal) {
      const blobName = blobNameOf(ref);
      if (blobName === undefined) throw unknownRef(ref);
      const blob = container.getBlobClient(blobName);
      const what = `read ${ref}`;

      async function* chunks() {
        const found = await calls.run(what, (abortSignal) => blob.getProperties({ abortSignal }), signal).catch((error) => {
          throw error instanceof StorageError && error.status === 404 ? unknownRef(ref, error) : error;
        });
        const { contentLength = 0, etag = "" } = found;
        for (let offset = 0; offset < contentLength; offset += chunkBytes) {
          const count = Math.min(chunkBytes, contentLength - offset);
          yield await calls.run(
            what,
            // If the value was replaced meanwhile, its etag no longer matches.
            (abortSignal) => blob.downloadToBuffer(offset, count, { abortSignal, conditions: { ifMatch: etag }, concurrency: 1 }),
            signal,
          );
        }
      }
      yield* decodeLines(chunks(), ref);
    },
  };

  /** The reference decides which blob of this container is read, and can't point outside of it. */
  function blobNameOf(ref: string): string | undefined {
    const prefix = `${container.url}/`;
    if (!ref.startsWith(prefix)) return undefined;
    try {
      const blobName = decodeURIComponent(ref.slice(prefix.length));
      return isPlainPath(blobName) ? blobName : undefined;
    } catch {
      return undefined;
    }
  }
}

import { type BlobAccount, createBlobClient } from "../../shared/blob-storage/account.ts";
import { createStorageCalls, type StorageCallOptions, StorageError } from "../../shared/blob-storage/calls.ts";
import { PermanentError } from "../../shared/errors.ts";

export interface ListedFile {
  readonly name: string;
  readonly size: number;
  readonly lastModified: string;
}

export interface FileProperties extends Omit<ListedFile, "name"> {
  readonly contentType: string | null;
  readonly etag: string | null;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * The containers of one Azure Blob Storage account, to read. What is missing or forbidden is a PermanentError `task-failed` that
 * names the container; anything else was retried before it was thrown, and the task may be tried again.
 */
export interface Containers {
  /** Every file once, in the order of their names. Holds one page at a time. */
  list(container: string, options: { readonly prefix: string; readonly signal: AbortSignal }): AsyncIterable<ListedFile>;
  getProperties(container: string, name: string, signal: AbortSignal): Promise<FileProperties>;
}

export interface ContainersOptions extends Partial<StorageCallOptions> {
  /** Files per request; Azure gives at most 5,000. */
  readonly pageSize?: number;
}

export function createContainers(account: BlobAccount, { pageSize = 5000, ...callOptions }: ContainersOptions = {}): Containers {
  const client = createBlobClient(account);
  const calls = createStorageCalls(callOptions);
  return {
    async *list(container, { prefix, signal }) {
      let continuationToken: string | undefined;
      do {
        // Each page is a request of its own, retried by itself: the token says where the listing goes on.
        const page = await calls
          .run(
            `list container ${container}`,
            (abortSignal) =>
              client.getContainerClient(container)
                .listBlobsFlat({ prefix, includeMetadata: true, abortSignal })
                .byPage({ maxPageSize: pageSize, ...(continuationToken && { continuationToken }) })
                .next(),
            signal,
          )
          .catch((error) => {
            throw refusal(error, container);
          });
        if (page.done) return;
        for (const { name, properties, metadata } of page.value.segment.blobItems) {
          // Accounts with a hierarchical namespace list their folders as blobs of 0 bytes.
          if (metadata?.["hdi_isfolder"] === "true") continue;
          yield { name, size: properties.contentLength ?? 0, lastModified: properties.lastModified.toISOString() };
        }
        continuationToken = page.value.continuationToken;
      } while (continuationToken);
    },

    async getProperties(container, name, signal) {
      const blob = client.getContainerClient(container).getBlobClient(name);
      const found = await calls
        .run(`read ${name} in container ${container}`, (abortSignal) => blob.getProperties({ abortSignal }), signal)
        .catch((error) => {
          throw refusal(error, container, name);
        });
      if (!found.lastModified) throw new Error(`storage gave no last-modified of ${name} in container ${container}`);
      return {
        size: found.contentLength ?? 0,
        lastModified: found.lastModified.toISOString(),
        contentType: found.contentType || null,
        etag: found.etag ?? null,
        metadata: found.metadata ?? {},
      };
    },
  };
}

/** A refusal for good, in the words of the task; any other error as it is. */
function refusal(error: unknown, container: string, name?: string): unknown {
  if (!(error instanceof StorageError) || error.transient) return error;
  const message = error.status === 404
    ? name === undefined || error.code === "ContainerNotFound"
      ? `no container ${container}`
      : `no ${name} in container ${container}`
    : error.status === 401 || error.status === 403
    ? `no access to container ${container}: ${error.message}`
    : error.message;
  return new PermanentError("task-failed", message, { cause: error });
}

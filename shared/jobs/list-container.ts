import * as v from "valibot";
import type { ClaimCheck } from "../claim-check/claim-check.ts";
import { parse } from "../contracts/parse.ts";
import type { TaskOutcome } from "../contracts/stage-result.ts";
import { defineJob } from "./define-job.ts";
import { defineTask } from "./define-task.ts";
import { ContainerName, ExtensionCounts, Prefix, SizeCategory, storageRetry } from "./files.ts";
import { TasksPerMessage } from "./tasks-per-message.ts";

const Count = v.pipe(v.number(), v.integer(), v.minValue(0));
const MetadataLevel = v.picklist(["basic", "standard", "full"]);

export const analyzeAndOrchestrate = defineTask({
  type: "analyze_and_orchestrate",
  params: v.object({
    container: ContainerName,
    filter: v.nullable(v.string()),
    prefix: v.string(),
    max_files: v.number(),
  }),
  result: v.object({
    container: v.string(),
    /** Files that passed the filter, at most `max_files`. */
    total: Count,
    total_size_bytes: Count,
    /** Files looked at. */
    scanned: Count,
    hit_file_limit: v.boolean(),
    /** NDJSON, one ListedLine per file. */
    listing_ref: v.string(),
    ready_for_stage_2: v.boolean(),
    orchestration: v.object({ action: v.picklist(["advance", "complete_job"]), reason: v.string() }),
    success: v.literal(true),
  }),
  retry: storageRetry,
  timeoutMs: 3_600_000,
});

/** A line of the listing. */
export const ListedLine = v.object({ name: v.string(), size: Count, last_modified: v.string() });
export type ListedLine = v.InferOutput<typeof ListedLine>;

/** What `metadata_level` leaves out is null: `basic` has no content_type, etag and metadata, `standard` no metadata. */
export const extractMetadata = defineTask({
  type: "extract_metadata",
  params: v.object({ container: ContainerName, name: v.pipe(v.string(), v.minLength(1)), metadata_level: MetadataLevel }),
  result: v.object({
    name: v.string(),
    size: Count,
    last_modified: v.string(),
    content_type: v.nullable(v.string()),
    etag: v.nullable(v.string()),
    metadata: v.nullable(v.record(v.string(), v.string())),
    size_category: SizeCategory,
    extension: v.string(),
    folder_path: v.string(),
    extraction_level: MetadataLevel,
    success: v.literal(true),
  }),
  retry: storageRetry,
  timeoutMs: 300_000,
});

/** What `reduce` keeps of each extracted file for the index. */
export const IndexedFile = v.object({
  name: v.string(),
  size: Count,
  last_modified: v.string(),
  extension: v.string(),
  folder_path: v.string(),
});
export type IndexedFile = v.InferOutput<typeof IndexedFile>;

export const createFileIndex = defineTask({
  type: "create_file_index",
  params: v.object({ container: ContainerName, files_ref: v.string() }),
  result: v.object({
    container: v.string(),
    /**
     * NDJSON: `{kind: "file", …IndexedFile}` for each file in the order of the names, and `{kind: "folder", path, files,
     * size_bytes}` for each folder, after the last file in or below it.
     */
    index_ref: v.string(),
    file_count: Count,
    folder_count: Count,
    total_size_bytes: Count,
    type_distribution: ExtensionCounts,
    success: v.literal(true),
  }),
  retry: storageRetry,
  timeoutMs: 3_600_000,
});

/** Lists a container, reads each of its files' properties, and indexes them if asked to. */
export const listContainer = defineJob({
  type: "list_container",
  description: "the files of a container, each with its metadata, and an index of them",
  params: v.object({
    container: ContainerName,
    filter: v.optional(v.nullable(v.pipe(v.string(), v.minLength(1), v.maxLength(1024))), null),
    prefix: Prefix,
    max_files: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1_000_000)), 2500),
    metadata_level: v.optional(MetadataLevel, "standard"),
    create_index: v.optional(v.boolean(), false),
    tasks_per_message: TasksPerMessage,
  }),
  stages: [
    {
      name: "analyze_and_orchestrate",
      task: analyzeAndOrchestrate,
      plan({ parameters: { container, filter, prefix, max_files } }) {
        return [{ container, filter, prefix, max_files }];
      },
      async reduce({ outcomes }) {
        for await (const { result } of outcomes()) {
          if (result) return result;
        }
        return {};
      },
      decide: ({ metadata, failed_tasks }) =>
        failed_tasks > 0
          ? { action: "advance" } // which the engine refuses, naming the task's error
          : parse(analyzeAndOrchestrate.result, metadata, "contract-violation").orchestration,
    },
    {
      name: "extract_metadata",
      task: extractMetadata,
      async *plan({ parameters: { container, metadata_level }, earlier, claimCheck, signal }) {
        const listing = parse(analyzeAndOrchestrate.result, earlier[0]?.result.metadata, "contract-violation");
        for await (const line of claimCheck.readLines(listing.listing_ref, signal)) {
          yield { container, name: parse(ListedLine, line, "contract-violation").name, metadata_level };
        }
      },
      // Containers change while they are being listed: a file that is gone when its turn comes fails its task for good.
      tolerate: { percent: 5 },
      // A task is one request of a few milliseconds, so that with a message each, a million files would be mostly messages.
      tasksPerMessage: ({ tasks_per_message }) => tasks_per_message ?? 10,
      async reduce({ jobId, parameters, counts, outcomes, claimCheck, signal }) {
        const metadata = { extracted: counts.completed, failed: counts.failed };
        if (!parameters.create_index) return metadata;
        return { ...metadata, files_ref: await writeIndexedFiles(jobId, outcomes(), claimCheck, signal) };
      },
      decide: (_, { parameters }) =>
        parameters.create_index ? { action: "advance" } : { action: "complete_job", reason: "no index was asked for" },
    },
    {
      name: "create_file_index",
      task: createFileIndex,
      plan({ parameters: { container }, earlier }) {
        return [{ container, files_ref: earlier[1]?.result.metadata["files_ref"] }];
      },
      async reduce({ outcomes }) {
        for await (const { result } of outcomes()) {
          if (result) return result;
        }
        return {};
      },
    },
  ],
  finalize({ parameters: { container }, earlier }) {
    const [listing, extraction, index] = earlier.map(({ result }) => result.metadata);
    return {
      container,
      total: listing?.["total"] ?? 0,
      total_size_bytes: listing?.["total_size_bytes"] ?? 0,
      hit_file_limit: listing?.["hit_file_limit"] ?? false,
      listing_ref: listing?.["listing_ref"] ?? null,
      extracted: extraction?.["extracted"] ?? 0,
      failed: extraction?.["failed"] ?? 0,
      index: index ?? null,
    };
  },
});

/** The key is new each time: a reducer that lost its lease may still be writing. Readers use the reference that was recorded. */
function writeIndexedFiles(
  jobId: string,
  outcomes: AsyncIterable<TaskOutcome>,
  claimCheck: ClaimCheck,
  signal: AbortSignal,
): Promise<string> {
  async function* files() {
    for await (const { status, result } of outcomes) {
      if (status === "completed") yield parse(IndexedFile, result, "contract-violation");
    }
  }
  return claimCheck.writeLines(`${jobId}/files/${crypto.randomUUID()}.ndjson`, files(), signal);
}

import { BlobServiceClient, type ContainerClient } from "@azure/storage-blob";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createJudges } from "../../services/task-runner/assessment/judges.ts";
import { createContainers } from "../../services/task-runner/containers.ts";
import { createTaskHandlers } from "../../services/task-runner/tasks/catalog.ts";
import { openClaimCheck } from "../../shared/claim-check/open.ts";
import { helloWorld } from "../../shared/jobs/hello-world.ts";
import { createFileIndex, IndexedFile, listContainer } from "../../shared/jobs/list-container.ts";
import { summarizeContainer } from "../../shared/jobs/summarize-container.ts";
import { collect } from "../support/collect.ts";
import { assessment } from "../support/all-jobs.ts";
import { type Azurite, startAzurite } from "../support/azurite.ts";
import { runStages, type RunStagesOptions } from "./run-stages.ts";

const kilobytes = 1024;
const megabyte = 1024 * kilobytes;

/** By hand, in the order of the names. */
const files = [
  { name: "README", size: 12, extension: "", folder_path: "", size_category: "tiny" },
  { name: "a/b/deep.tif", size: 2 * megabyte, extension: ".tif", folder_path: "a/b", size_category: "small" },
  { name: "a/z 100% #1.TIF", size: megabyte, extension: ".tif", folder_path: "a", size_category: "small" },
  { name: "a/zero.csv", size: 0, extension: ".csv", folder_path: "a", size_category: "tiny" },
  { name: "big/eleven.tif", size: 11 * megabyte, extension: ".tif", folder_path: "big", size_category: "medium" },
  { name: "ünï/日本 🙂.geojson", size: 512 * kilobytes, extension: ".geojson", folder_path: "ünï", size_category: "tiny" },
];
const names = files.map(({ name }) => name);
const totalBytes = 12 + 14 * megabyte + 512 * kilobytes;

const IndexLines = v.array(v.variant("kind", [
  v.object({ kind: v.literal("file"), ...IndexedFile.entries }),
  v.object({ kind: v.literal("folder"), path: v.string(), files: v.number(), size_bytes: v.number() }),
]));

let azurite: Azurite;
let options: RunStagesOptions;
let directory: string;
let client: BlobServiceClient;
let data: ContainerClient;

beforeAll(async () => {
  azurite = await startAzurite();
  client = BlobServiceClient.fromConnectionString(azurite.connectionString);
  data = client.getContainerClient("data");
  await data.create();
  for (const { name, size } of files) {
    await data.getBlockBlobClient(name).upload(Buffer.alloc(size), size, {
      metadata: { sensor: "S2" },
      blobHTTPHeaders: { blobContentType: "image/tiff" },
    });
  }
  await client.getContainerClient("empty").create();
  directory = await mkdtemp(join(tmpdir(), "sluice-jobs-"));
  const containers = createContainers({ connectionString: azurite.connectionString }, { pageSize: 2, backoffMs: 1 });
  options = {
    handlers: createTaskHandlers({ containers, assessment, judges: createJudges({ ASSESSMENT_TIMEOUT_MS: 1_000 }) }),
    claimCheck: openClaimCheck({ directory }),
  };
});
afterAll(async () => {
  await azurite?.stop();
  if (directory) await rm(directory, { recursive: true });
});

describe("hello_world", () => {
  test("each reply quotes the greeting of its own index", async () => {
    const { outcomes: [greetings, replies], result } = await runStages(helloWorld, { n: 3, name: "Ada", message: "hi" }, options);
    expect(greetings?.map(({ result }) => result)).toEqual([1, 2, 3].map((n) => ({
      task_number: n,
      greeting: `Hello, Ada! (task ${n})`,
      message: "hi",
      stage: "greeting",
      timestamp: expect.any(String),
      success: true,
    })));
    expect(replies?.map(({ result }) => result)).toEqual([1, 2, 3].map((n) => ({
      task_number: n,
      reply: expect.stringContaining(`Hello, Ada! (task ${n})`),
      original_greeting: `Hello, Ada! (task ${n})`,
      stage: "reply",
      timestamp: expect.any(String),
      success: true,
    })));
    expect(result).toEqual({ greetings: 3, replies: 3 });
  });

  test("a failure rate of 1 fails every greeting, for a reason that a retry may cure", async () => {
    const { outcomes: [greetings] } = await runStages(helloWorld, { n: 3, failure_rate: 1 }, options);
    expect(greetings?.map(({ error }) => error?.code)).toEqual(["error", "error", "error"]);
  });
});

describe("summarize_container", () => {
  test("counts, sizes and types are those of the files", async () => {
    const { result } = await runStages(summarizeContainer, { container: "data" }, options);
    expect(result).toEqual({
      container_summary: {
        container: "data",
        file_count: 6,
        total_size_mb: 14.5,
        total_size_bytes: totalBytes,
        largest_file: { name: "big/eleven.tif", size_mb: 11 },
        size_distribution: { tiny: 3, small: 2, medium: 1, large: 0, huge: 0 },
        type_distribution: { ".tif": 3, ".csv": 1, ".geojson": 1, "(none)": 1 },
        hit_file_limit: false,
        scan_time: expect.stringMatching(/^\d{4}-.*Z$/),
        success: true,
      },
    });
  });

  test.each([
    [{ container: "data", max_files: 6 }, 6, false],
    [{ container: "data", max_files: 5 }, 5, true],
    [{ container: "data", prefix: "a/" }, 3, false],
    [{ container: "data", prefix: "a/", max_files: 1 }, 1, true],
    [{ container: "empty" }, 0, false],
  ])("%j counts %d files, more than the limit: %j", async (parameters, file_count, hit_file_limit) => {
    const { result } = await runStages(summarizeContainer, parameters, options);
    expect(result).toMatchObject({ container_summary: { file_count, hit_file_limit } });
  });

  test("of an empty container nothing is largest", async () => {
    const { result } = await runStages(summarizeContainer, { container: "empty" }, options);
    expect(result).toMatchObject({ container_summary: { largest_file: null, total_size_mb: 0, type_distribution: {} } });
  });

  test("a container that doesn't exist fails the task for good, by its name", async () => {
    const { outcomes: [[outcome] = []] } = await runStages(summarizeContainer, { container: "no-such" }, options);
    expect(outcome?.error).toEqual({
      code: "task-failed",
      message: "no container no-such",
      at: "services/task-runner/containers.ts refusal",
    });
  });
});

describe("list_container", () => {
  test("one task per file tells what the listing and the file say", async () => {
    const { stages, outcomes, result } = await runStages(listContainer, { container: "data", metadata_level: "full" }, options);
    expect(outcomes[1]?.map(({ result }) => result)).toEqual(files.map((file) => ({
      ...file,
      last_modified: expect.stringMatching(/^\d{4}-.*Z$/),
      content_type: "image/tiff",
      etag: expect.any(String),
      metadata: { sensor: "S2" },
      extraction_level: "full",
      success: true,
    })));
    expect(stages.map(({ orchestration }) => orchestration)).toEqual([
      { action: "advance", reason: "6 files to read" },
      { action: "complete_job", reason: "no index was asked for" },
    ]);
    expect(result).toEqual({
      container: "data",
      total: 6,
      total_size_bytes: totalBytes,
      hit_file_limit: false,
      listing_ref: expect.stringMatching(/^file:/),
      extracted: 6,
      failed: 0,
      index: null,
    });
  });

  test.each([
    ["basic", { content_type: null, etag: null, metadata: null }],
    ["standard", { content_type: "image/tiff", etag: expect.any(String), metadata: null }],
  ])("level %s leaves out what it doesn't cover", async (metadata_level, expected) => {
    const { outcomes } = await runStages(listContainer, { container: "data", metadata_level, max_files: 1 }, options);
    expect(outcomes[1]?.map(({ result }) => result)).toEqual([
      expect.objectContaining({ ...expected, extraction_level: metadata_level }),
    ]);
  });

  test.each([
    [{ filter: ".tif" }, [1, 2, 4], false],
    [{ filter: "日本" }, [5], false],
    [{ filter: "100% #" }, [2], false],
    [{ filter: "TIF", prefix: "a/" }, [1, 2], false],
    [{ filter: ".tif", max_files: 2 }, [1, 2], true],
    [{ max_files: 6 }, [0, 1, 2, 3, 4, 5], false],
    [{ prefix: "big/" }, [4], false],
  ])("%j reads files %j, more than the limit: %j", async (parameters, expected, hit_file_limit) => {
    const { outcomes, result } = await runStages(listContainer, { container: "data", ...parameters }, options);
    expect(outcomes[1]?.map(({ result }) => result?.["name"])).toEqual(expected.map((index) => names[index]));
    expect(result).toMatchObject({ total: expected.length, extracted: expected.length, hit_file_limit });
  });

  test.each([
    [{ container: "data", filter: "tiff" }, "no files found: container data, filter tiff"],
    [{ container: "data", prefix: "c/" }, "no files found: container data, prefix c/"],
    [{ container: "empty" }, "no files found: container empty"],
  ])("%j finds nothing and completes the job, saying so", async (parameters, reason) => {
    const { stages, result } = await runStages(listContainer, parameters, options);
    expect(stages.map(({ orchestration }) => orchestration)).toEqual([{ action: "complete_job", reason }]);
    expect(result).toMatchObject({ total: 0, extracted: 0, index: null });
  });

  test("the index holds the files in order, each folder with its own files, and the counts", async () => {
    const { result } = await runStages(listContainer, { container: "data", create_index: true }, options);
    expect(result).toMatchObject({
      index: {
        container: "data",
        file_count: 6,
        folder_count: 5,
        total_size_bytes: totalBytes,
        type_distribution: { ".tif": 3, ".csv": 1, ".geojson": 1, "(none)": 1 },
      },
    });
    const { index_ref } = v.parse(createFileIndex.result, result["index"]);
    const lines = v.parse(IndexLines, await collect(options.claimCheck.readLines(index_ref)));
    expect(lines.filter((line) => line.kind === "file").map(({ name }) => name)).toEqual(names);
    const folders = lines.filter((line) => line.kind === "folder").sort((a, b) => (a.path < b.path ? -1 : 1));
    expect(folders).toEqual([
      { kind: "folder", path: "", files: 1, size_bytes: 12 },
      { kind: "folder", path: "a", files: 2, size_bytes: megabyte },
      { kind: "folder", path: "a/b", files: 1, size_bytes: 2 * megabyte },
      { kind: "folder", path: "big", files: 1, size_bytes: 11 * megabyte },
      { kind: "folder", path: "ünï", files: 1, size_bytes: 512 * kilobytes },
    ]);
  });

  test("a file that vanished after it was listed fails for good; the others and the index go on", async () => {
    const passing = data.getBlockBlobClient("b/passing.txt");
    await passing.upload("here", 4);
    const { outcomes, result } = await runStages(listContainer, { container: "data", create_index: true }, {
      ...options,
      beforeTasks: async (stage) => void (stage === "extract_metadata" && await passing.delete()),
    });
    expect(outcomes[1]?.filter(({ error }) => error)).toEqual([{
      index: 4,
      status: "failed",
      result: null,
      error: {
        code: "task-failed",
        message: "no b/passing.txt in container data",
        at: "services/task-runner/containers.ts refusal",
      },
    }]);
    expect(result).toMatchObject({ total: 7, extracted: 6, failed: 1, index: { file_count: 6 } });
    expect(listContainer.stages[1]?.tolerate).toEqual({ percent: 5 });
  });
});

import * as v from "valibot";
import { defineJob } from "./define-job.ts";
import { defineTask } from "./define-task.ts";
import { ContainerName, ExtensionCounts, Prefix, storageRetry } from "./files.ts";

const Count = v.pipe(v.number(), v.integer(), v.minValue(0));

const params = v.object({
  container: ContainerName,
  prefix: Prefix,
  max_files: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(10_000_000)), 2500),
});

export const summarizeContainerTask = defineTask({
  type: "summarize_container",
  params,
  result: v.object({
    container: v.string(),
    file_count: Count,
    total_size_mb: v.number(),
    total_size_bytes: Count,
    largest_file: v.nullable(v.object({ name: v.string(), size_mb: v.number() })),
    size_distribution: v.object({ tiny: Count, small: Count, medium: Count, large: Count, huge: Count }),
    type_distribution: ExtensionCounts,
    /** The container holds more files than were asked for. */
    hit_file_limit: v.boolean(),
    scan_time: v.string(),
    success: v.literal(true),
  }),
  retry: storageRetry,
  timeoutMs: 3_600_000,
});

/** Sizes and types of the files in a container, from its listing alone. */
export const summarizeContainer = defineJob({
  type: "summarize_container",
  description: "how many files a container holds, how large, of which types",
  params,
  estimateTasks: () => 1,
  stages: [
    {
      name: "summarize",
      task: summarizeContainerTask,
      plan: ({ parameters }) => [parameters],
      async reduce({ outcomes }) {
        for await (const { result } of outcomes()) {
          if (result) return { container_summary: result };
        }
        return {};
      },
    },
  ],
});

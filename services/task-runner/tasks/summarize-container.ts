import { createExtensionTally, extensionOf, megabytes, sizeCategoryOf } from "../../../shared/jobs/files.ts";
import { summarizeContainerTask } from "../../../shared/jobs/summarize-container.ts";
import type { Containers } from "../containers.ts";
import { defineHandler, type TaskHandler } from "../task-handler.ts";

export function createSummarizeContainer(containers: Containers): TaskHandler {
  return defineHandler(summarizeContainerTask, async ({ container, prefix, max_files }, { signal }) => {
    const sizes = { tiny: 0, small: 0, medium: 0, large: 0, huge: 0 };
    const types = createExtensionTally();
    let count = 0;
    let bytes = 0;
    let largest: { name: string; size: number } | undefined;
    let hitFileLimit = false;
    for await (const file of containers.list(container, { prefix, signal })) {
      if (count === max_files) {
        hitFileLimit = true;
        break;
      }
      count++;
      bytes += file.size;
      sizes[sizeCategoryOf(file.size)]++;
      types.add(extensionOf(file.name));
      if (!largest || file.size > largest.size) largest = file;
    }
    return {
      container,
      file_count: count,
      total_size_mb: megabytes(bytes),
      total_size_bytes: bytes,
      largest_file: largest ? { name: largest.name, size_mb: megabytes(largest.size) } : null,
      size_distribution: sizes,
      type_distribution: types.counts(),
      hit_file_limit: hitFileLimit,
      scan_time: new Date().toISOString(),
      success: true,
    };
  });
}

import { analyzeAndOrchestrate, type ListedLine } from "../../../shared/jobs/list-container.ts";
import type { Containers } from "../containers.ts";
import { defineHandler, type TaskHandler } from "../task-handler.ts";

export function createAnalyzeAndOrchestrate(containers: Containers): TaskHandler {
  return defineHandler(analyzeAndOrchestrate, async (params, { jobId, claimId, claimCheck, signal }) => {
    const { container, prefix, max_files } = params;
    const filter = params.filter?.toLowerCase() ?? "";
    let scanned = 0;
    let total = 0;
    let bytes = 0;
    let hitFileLimit = false;

    async function* lines(): AsyncGenerator<ListedLine> {
      for await (const { name, size, lastModified } of containers.list(container, { prefix, signal })) {
        scanned++;
        if (!name.toLowerCase().includes(filter)) continue;
        if (total === max_files) {
          hitFileLimit = true;
          return;
        }
        total++;
        bytes += size;
        yield { name, size, last_modified: lastModified };
      }
    }

    const listingRef = await claimCheck.writeLines(`${jobId}/listing/${claimId}.ndjson`, lines(), signal);
    const sought = [`container ${container}`, prefix && `prefix ${prefix}`, params.filter && `filter ${params.filter}`];
    return {
      container,
      total,
      total_size_bytes: bytes,
      scanned,
      hit_file_limit: hitFileLimit,
      listing_ref: listingRef,
      ready_for_stage_2: total > 0,
      orchestration: total > 0 ? { action: "advance", reason: `${total} files to read` } : {
        action: "complete_job",
        reason: `no files found: ${sought.filter(Boolean).join(", ")}`.slice(0, 1000).toWellFormed(),
      },
      success: true,
    };
  });
}

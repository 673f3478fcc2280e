// Run by million-files.long.test.ts in a process of its own: its heap is what is measured.
import { pino } from "pino";
import { handleCreateFileIndex } from "../../services/task-runner/tasks/create-file-index.ts";
import { openClaimCheck } from "../../shared/claim-check/open.ts";
import { listContainer, type ListedLine } from "../../shared/jobs/list-container.ts";

const [location = "{}", count = "0"] = process.argv.slice(2);
const total = Number(count);
const claimCheck = openClaimCheck(JSON.parse(location));
const { signal } = new AbortController();
const last_modified = new Date(0).toISOString();

/** A hundred files to a folder, ten thousand folders, in the order of the names. */
function nameOf(index: number): string {
  const number = String(index).padStart(7, "0");
  return `region/${number.slice(0, 5)}/scene ${number}.tif`;
}

function* listing(): Generator<ListedLine> {
  for (let index = 0; index < total; index++) yield { name: nameOf(index), size: index, last_modified };
}

async function* outcomes() {
  for (let index = 0; index < total; index++) {
    const name = nameOf(index);
    const folder_path = name.slice(0, name.lastIndexOf("/"));
    const result = { name, size: index, last_modified, extension: ".tif", folder_path };
    yield { index, status: "completed" as const, result, error: null };
  }
}

const jobId = "a".repeat(64);
const stage = listContainer.stages[1];
if (!stage?.reduce) throw new Error("no stage extract_metadata");

const started = performance.now();
const listing_ref = await claimCheck.writeLines("listing", listing(), signal);
const listed = {
  ...{
    container: "data",
    total,
    total_size_bytes: 0,
    scanned: total,
    hit_file_limit: false,
    listing_ref,
    ready_for_stage_2: true,
  },
  ...{ orchestration: { action: "advance", reason: "" }, success: true },
};
const result = {
  ...{ stage_number: 1, stage_key: "", status: "completed" as const, task_count: 1, successful_tasks: 1, failed_tasks: 0 },
  ...{ success_rate: 100, completed_at: "", metadata: listed, orchestration: { action: "advance" as const } },
};
const earlier = [{ result, outcomes }];
const parameters = { container: "data", metadata_level: "basic", create_index: true };
const context = { jobId, parameters, earlier, claimCheck, signal };

let planned = 0;
for await (const params of stage.plan(context)) {
  if (Object(params).name !== nameOf(planned++)) throw new Error(`task ${planned} is not that of its file`);
}
const counts = { planned: total, completed: total, failed: 0 };
const { files_ref } = await stage.reduce({ ...context, counts, outcomes });
const index = await handleCreateFileIndex.run(
  { container: "data", files_ref },
  { jobId, taskId: 1, stage: 3, index: 0, attempt: 1, claimId: "1", signal, claimCheck, log: pino({ level: "silent" }) },
);
const seconds = (performance.now() - started) / 1000;
console.log(JSON.stringify({ planned, index, seconds, maxRssMb: process.resourceUsage().maxRSS / 1024 }));

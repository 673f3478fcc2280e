import * as v from "valibot";
import { JobId, RowId } from "./ids.ts";

/** Ids read from a body that broke its contract. They link the poison record to its rows; nothing is failed on their word. */
export interface SalvagedIds {
  readonly jobId?: string;
  readonly stageId?: number;
  readonly taskIds?: readonly number[];
}

/** Reads what ids it can: from the JSON where it parses, otherwise by pattern from the first 64 KiB of text. */
export function salvageIds(body: string): SalvagedIds {
  const text = body.slice(0, 65_536);
  let fields: unknown;
  try {
    fields = inOurWords(JSON.parse(body));
  } catch {
    fields = {
      jobId: /"job_?[iI]d"\s*:\s*"([0-9a-f]{64})"/.exec(text)?.[1],
      stageId: Number(/"stage_?[iI]d"\s*:\s*(\d{1,15})/.exec(text)?.[1]),
      taskIds: /"task_?[iI]ds"\s*:\s*\[([\d\s,]{1,2000})/.exec(text)?.[1]?.split(",").map(Number),
    };
  }
  if (typeof fields !== "object" || fields === null) return {};
  const { jobId, stageId, taskIds } = fields as Record<string, unknown>;
  const ids = Array.isArray(taskIds) ? taskIds.slice(0, 100).filter((id) => v.is(RowId, id)) : [];
  return {
    ...(v.is(JobId, jobId) && { jobId }),
    ...(v.is(RowId, stageId) && { stageId }),
    ...(ids.length > 0 && { taskIds: ids }),
  };
}

/** Other systems, and people, write `job_id`. */
function inOurWords(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const { job_id, stage_id, task_ids, ...others } = value as Record<string, unknown>;
  return { jobId: job_id, stageId: stage_id, taskIds: task_ids, ...others };
}

import * as v from "valibot";
import type { ErrorRecord } from "../errors.ts";
import { JsonObject } from "./parse.ts";

/** How one task of a stage ended, as results are read by `plan` and `reduce`. */
export interface TaskOutcome {
  readonly index: number;
  readonly status: "completed" | "failed" | "cancelled";
  readonly result: JsonObject | null;
  readonly error: ErrorRecord | null;
}

/** What a stage decided when its barrier had opened. `create_tasks`, in any case, is accepted as `advance`. */
export const Decision = v.object({
  action: v.pipe(
    v.string(),
    v.toLowerCase(),
    v.transform((action) => (action === "create_tasks" ? "advance" : action)),
    v.picklist(["advance", "complete_job", "fail_job", "retry_stage"]),
  ),
  reason: v.optional(v.pipe(v.string(), v.maxLength(1000))),
});
export type Decision = v.InferOutput<typeof Decision>;

export interface StageResult {
  readonly stage_number: number;
  readonly stage_key: string;
  readonly status: "completed" | "completed_with_errors" | "failed";
  readonly task_count: number;
  readonly successful_tasks: number;
  readonly failed_tasks: number;
  /** 0 to 100; 100 where nothing was planned. */
  readonly success_rate: number;
  /** Up to 100 outcomes inline; otherwise `task_results_ref`, the path that lists them. */
  readonly task_results?: readonly TaskOutcome[];
  readonly task_results_ref?: string;
  readonly completed_at: string;
  readonly metadata: JsonObject;
  readonly orchestration: Decision;
}

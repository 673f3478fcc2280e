import * as v from "valibot";
import { JobId, RowId, Run } from "./ids.ts";

const header = {
  version: v.literal(1),
  jobId: JobId,
  /** From the HTTP request to every line of log. */
  correlationId: v.optional(v.pipe(v.string(), v.maxLength(128))),
};

/** A hint that a job may be started. */
export const StartJobMessage = v.object({ ...header, kind: v.literal("start-job"), run: Run });
export type StartJobMessage = v.InferOutput<typeof StartJobMessage>;

/** A hint that a stage wants to be planned, or that its barrier opened and it wants to be reduced: its row says which. */
export const StageMessage = v.object({ ...header, kind: v.literal("stage"), stageId: RowId, run: Run });
export type StageMessage = v.InferOutput<typeof StageMessage>;

/** A hint that tasks of one stage are due. */
export const TasksMessage = v.object({
  ...header,
  kind: v.literal("tasks"),
  stageId: RowId,
  run: Run,
  taskIds: v.pipe(v.array(RowId), v.minLength(1), v.maxLength(100)),
});
export type TasksMessage = v.InferOutput<typeof TasksMessage>;
// Not strict objects: a producer may add a field before its consumers know it.

export type Message = StartJobMessage | StageMessage | TasksMessage;

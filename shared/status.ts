/**
 * Every status and every legal change of one, for jobs, stages and tasks. The database refuses all others
 * (`guard_status` in the migrations); a test compares the two, pair by pair.
 */
export const jobTransitions = {
  queued: ["processing", "stopping"],
  processing: ["completed", "completed_with_errors", "failed", "stopping"],
  stopping: ["cancelled", "failed"],
  completed: ["queued"],
  completed_with_errors: ["queued"],
  failed: ["queued"],
  cancelled: ["queued"],
} as const;

export const stageTransitions = {
  planning: ["open", "failed", "cancelled"],
  open: ["reducing", "failed", "cancelled"],
  reducing: ["completed", "failed", "cancelled", "open"],
  completed: ["open", "planning"],
  failed: ["open", "planning"],
  cancelled: ["open", "planning"],
} as const;

export const taskTransitions = {
  pending: ["processing", "failed", "cancelled"],
  processing: ["completed", "failed", "cancelled", "pending"],
  completed: [],
  failed: ["pending"],
  cancelled: ["pending"],
} as const;

export type JobStatus = keyof typeof jobTransitions;
export type StageStatus = keyof typeof stageTransitions;
export type TaskStatus = keyof typeof taskTransitions;

export const jobStatuses = Object.keys(jobTransitions) as JobStatus[];
export const stageStatuses = Object.keys(stageTransitions) as StageStatus[];
export const taskStatuses = Object.keys(taskTransitions) as TaskStatus[];

export const endedJobStatuses = ["completed", "completed_with_errors", "failed", "cancelled"] as const satisfies JobStatus[];

export function hasEnded(status: JobStatus): boolean {
  return (endedJobStatuses as readonly JobStatus[]).includes(status);
}

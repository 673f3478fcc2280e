import type { ErrorRecord } from "../../../shared/errors.ts";
import type { Sql } from "../../../shared/store/database.ts";
import { endStoppedJobs, stopJob } from "../../../shared/store/jobs.ts";
import { cancelTasks, findStagesWithOpenTasks, sliceStage } from "../../../shared/store/tasks.ts";

/** Fails a job that can't go on: its stages first, its open tasks in slices, the job last. What a crash leaves, the sweep goes on with. */
export async function closeJob(sql: Sql, sender: string, jobId: string, error: ErrorRecord): Promise<void> {
  await stopJob(sql, { jobId, as: "failed", error });
  await closeStopping(sql, sender, jobId);
}

export async function closeStopping(sql: Sql, sender: string, jobId: string): Promise<void> {
  for (const stage of await findStagesWithOpenTasks(sql, jobId)) {
    for (const slice of sliceStage(stage)) await cancelTasks(sql, sender, slice);
  }
  await endStoppedJobs(sql, jobId);
}

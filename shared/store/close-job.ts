import type { ErrorRecord } from "../errors.ts";
import type { Sql } from "./database.ts";
import { endStoppedJobs, stopJob } from "./jobs.ts";
import { cancelTasks, findStagesWithOpenTasks, sliceStage } from "./tasks.ts";

/**
 * Stops a job and ends it: its stages first, its open tasks in slices, the job last. What a crash leaves, the sweep goes on with.
 * Returns the jobs that ended: this one, or none.
 */
export async function closeJob(
  sql: Sql,
  sender: string,
  jobId: string,
  { as, error }: { as: "failed" | "cancelled"; error: ErrorRecord | null },
): Promise<readonly string[]> {
  await stopJob(sql, { jobId, as, error });
  return await closeStopping(sql, sender, jobId);
}

/** Closes the open tasks of a job that is stopping, then ends it. Once is enough: nothing of it is planned or opened any more. */
export async function closeStopping(sql: Sql, sender: string, jobId: string): Promise<readonly string[]> {
  for (const stage of await findStagesWithOpenTasks(sql, jobId)) {
    for (const slice of sliceStage(stage)) await cancelTasks(sql, sender, slice);
  }
  return await endStoppedJobs(sql, jobId);
}

import type { ErrorRecord } from "../../shared/errors.ts";
import { endStoppedJobs, stopJob } from "../../shared/store/jobs.ts";
import { cancelTasks, findStagesWithOpenTasks, sliceStage } from "../../shared/store/tasks.ts";
import type { Orchestrator } from "./orchestrator.ts";

/** Stops a job and ends it: its stages first, its open tasks in slices, the job last. What a crash leaves, the sweep goes on with. */
export async function closeJob(
  orchestrator: Orchestrator,
  jobId: string,
  { as, error }: { as: "failed" | "cancelled"; error: ErrorRecord | null },
): Promise<void> {
  await stopJob(orchestrator.sql, { jobId, as, error });
  await closeTasks(orchestrator, jobId);
}

/** Closes the open tasks of a job that is stopping, then ends it. Once is enough: nothing of it is planned or opened any more. */
export async function closeTasks({ sql, id, log }: Orchestrator, jobId: string): Promise<void> {
  for (const stage of await findStagesWithOpenTasks(sql, jobId)) {
    for (const slice of sliceStage(stage)) await cancelTasks(sql, id, slice);
  }
  for (const ended of await endStoppedJobs(sql, jobId)) log.info({ jobId: ended }, "stopped job ended");
}

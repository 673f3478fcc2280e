import type { ErrorRecord } from "../../shared/errors.ts";
import { endStoppedJobs, stopJob } from "../../shared/store/jobs.ts";
import { cancelTasks } from "../../shared/store/tasks.ts";
import type { Orchestrator } from "./orchestrator.ts";

/** Open tasks closed in one statement: each slice holds its locks for a moment only. */
const sliceSize = 1000;

/** Stops a job and ends it: its stages first, its open tasks in slices, the job last. What a crash leaves, the sweep goes on with. */
export async function closeJob(
  orchestrator: Orchestrator,
  jobId: string,
  { as, error }: { as: "failed" | "cancelled"; error: ErrorRecord | null },
): Promise<void> {
  await stopJob(orchestrator.sql, { jobId, as, error });
  await closeTasks(orchestrator, jobId);
}

/** Closes the open tasks of a job that is stopping, then ends it. */
export async function closeTasks({ sql, id, log }: Orchestrator, jobId: string): Promise<void> {
  while (await cancelTasks(sql, id, jobId, sliceSize) === sliceSize);
  for (const ended of await endStoppedJobs(sql, jobId)) log.info({ jobId: ended }, "stopped job ended");
}

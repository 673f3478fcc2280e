import type { ErrorRecord } from "../../shared/errors.ts";
import { closeJob as closeJobRows, closeStopping } from "../../shared/store/close-job.ts";
import type { Orchestrator } from "./orchestrator.ts";

/** Stops a job and ends it, and says so. */
export async function closeJob(
  orchestrator: Orchestrator,
  jobId: string,
  { as, error }: { as: "failed" | "cancelled"; error: ErrorRecord | null },
): Promise<void> {
  logEnded(orchestrator, await closeJobRows(orchestrator.sql, orchestrator.id, jobId, { as, error }));
}

/** Closes the open tasks of a job that is stopping, ends it, and says so. */
export async function closeTasks(orchestrator: Orchestrator, jobId: string): Promise<void> {
  logEnded(orchestrator, await closeStopping(orchestrator.sql, orchestrator.id, jobId));
}

function logEnded({ log }: Orchestrator, jobIds: readonly string[]): void {
  for (const jobId of jobIds) log.info({ jobId }, "stopped job ended");
}

import { findStalledJobs, type StalledJob } from "../../../shared/store/damage/stalled.ts";
import { hintJobsAgain } from "../../../shared/store/sweep.ts";
import { type Check, type Found, found, lateMs, maxListed, together, twice } from "./check.ts";
import { closeJob, closeStopping } from "./close-job.ts";

/** Jobs that don't move: their start hint was lost, no stage of theirs is alive, or they take too long to stop. */
export const checkJobs: Check = {
  name: "jobs",
  ...twice(async ({ sql }): Promise<Found> => {
    const rows = await findStalledJobs(sql, { lateMs, limit: maxListed });
    const parts = (["hint", "stage", "stopping"] as const).map((why) => {
      const some = rows.filter((row) => row.why === why);
      return found(why === "hint" ? "lost-hint" : "stalled-job", { rows: some, total: some[0]?.total ?? 0 }, describeJob);
    });
    return together(parts);
  }),
  async mend({ sql, id }, findings) {
    if (findings.some(({ kind }) => kind === "lost-hint")) { while (await hintJobsAgain(sql) > 0); }
    const rows = await findStalledJobs(sql, { lateMs, limit: maxListed });
    for (const { jobId, why } of rows) {
      if (!findings.some(({ subject_id }) => subject_id === jobId)) continue;
      if (why === "stage") await closeJob(sql, id, jobId, { code: "no-stage", message: "the job had no stage that could go on" });
      if (why === "stopping") await closeStopping(sql, id, jobId);
    }
    const still = new Set((await findStalledJobs(sql, { lateMs, limit: maxListed })).map(({ jobId }) => jobId));
    return new Set(findings.filter(({ subject_id }) => !still.has(subject_id)));
  },
};

function describeJob({ jobId, why, run, startSends, open }: StalledJob) {
  const [message, suggested_action] = {
    hint: [
      `job ${jobId} is queued, and its last start hint (number ${startSends}) was sent long ago`,
      "apply: hints it again, as the sweep does; see that an orchestrator runs",
    ] as const,
    stage: [
      `job ${jobId} is processing, but no stage of it is planned, open or reduced`,
      "apply: fails the job, as it can't go on by itself; submit it again",
    ] as const,
    stopping: [
      `job ${jobId} has been stopping for minutes, with ${open} tasks open`,
      "apply: cancels what is open and ends the job, as the sweep does; see that an orchestrator runs",
    ] as const,
  }[why];
  return {
    severity: why === "stage" ? "error" : "warning",
    subject_type: "job",
    subject_id: jobId,
    job_id: jobId,
    message,
    suggested_action,
    repairable: true,
    evidence: [why, run, startSends, open],
  } as const;
}

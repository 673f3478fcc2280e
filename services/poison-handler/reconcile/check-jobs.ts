import { findStalledJobs, type StalledJob } from "../../../shared/store/damage/stalled.ts";
import { type Check, type Finding, found, maxListed, together, twice } from "./check.ts";
import { closeJob, closeStopping } from "../../../shared/store/close-job.ts";

/** Jobs that don't move: no stage of theirs is alive, or they take too long to stop. */
export const checkJobs: Check = {
  name: "jobs",
  ...twice(async ({ sql }) => {
    const rows = await findStalledJobs(sql, maxListed);
    const parts = (["stage", "stopping"] as const).map((why) => {
      const some = rows.filter((row) => row.why === why);
      return found("stalled-job", { rows: some, total: some[0]?.total ?? 0 }, describeJob);
    });
    return together(parts);
  }),
  async mend({ sql, id }, findings) {
    const stalled = async () => new Map((await findStalledJobs(sql, maxListed)).map(({ jobId, why }) => [jobId, why]));
    const before = await stalled();
    for (const { subject_id: jobId } of findings) {
      const why = before.get(jobId);
      if (why === "stage") {
        const error = { code: "no-stage", message: "the job had no stage that could go on" };
        await closeJob(sql, id, jobId, { as: "failed", error });
      }
      if (why === "stopping") await closeStopping(sql, id, jobId);
    }
    const after = await stalled();
    return new Set<Finding>(findings.filter(({ subject_id }) => !after.has(subject_id)));
  },
};

function describeJob({ jobId, why, run, open }: StalledJob) {
  return {
    severity: why === "stage" ? "error" : "warning",
    subject_type: "job",
    subject_id: jobId,
    job_id: jobId,
    message: why === "stage"
      ? `job ${jobId} is processing, but no stage of it is planned, open or reduced`
      : `job ${jobId} has been stopping for minutes, with ${open} tasks open`,
    suggested_action: why === "stage"
      ? "apply: fails the job, as it can't go on by itself; submit it again"
      : "apply: cancels what is open and ends the job, as the sweep does; see that an orchestrator runs",
    repairable: true,
    evidence: [why, run, open],
  } as const;
}

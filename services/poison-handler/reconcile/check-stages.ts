import { findLateStages, findShutStages, findStalledStages, type StalledStage } from "../../../shared/store/damage/stalled.ts";
import { openBarrier } from "../../../shared/store/stages.ts";
import { interruptStages } from "../../../shared/store/sweep.ts";
import { expireTasks, readStageTasks, sliceStage } from "../../../shared/store/tasks.ts";
import { type Check, type Finding, found, lateMs, maxListed, once, subjectIds, together, twice } from "./check.ts";
import { closeJob } from "../../../shared/store/close-job.ts";

/** Sealed stages whose barrier ought to have opened, by one snapshot; stages past their deadline. */
export const checkBarriers: Check = {
  name: "barriers and deadlines",
  ...once(async ({ sql }) =>
    together([
      found("stuck-stage", await findShutStages(sql, maxListed), ({ stageId, jobId }) => ({
        severity: "error",
        subject_type: "stage",
        subject_id: stageId,
        job_id: jobId,
        stage_id: stageId,
        message: `stage ${stageId} of job ${jobId} is sealed and has nothing open, but its barrier is shut`,
        suggested_action: "apply: opens the barrier, as the sweep does; see that an orchestrator runs",
        repairable: true,
      })),
      found("overdue-stage", await findLateStages(sql, { lateMs, limit: maxListed }), ({ stageId, jobId, open }) => ({
        severity: "warning",
        subject_type: "stage",
        subject_id: stageId,
        job_id: jobId,
        stage_id: stageId,
        message: `stage ${stageId} of job ${jobId} is past its deadline with ${open} tasks open`,
        suggested_action: "apply: fails what is open, as the sweep does; see that an orchestrator runs",
        repairable: true,
      })),
    ])
  ),
  async mend({ sql, id }, findings) {
    for (const { kind, subject_id } of findings) {
      if (kind === "stuck-stage") await openBarrier(sql, id, Number(subject_id));
    }
    const overdue = findings.filter(({ kind }) => kind === "overdue-stage");
    for (const stage of await readStageTasks(sql, subjectIds(overdue))) {
      for (const slice of sliceStage(stage)) await expireTasks(sql, id, slice);
    }
    const [shut, late] = [await findShutStages(sql, maxListed), await findLateStages(sql, { lateMs, limit: maxListed })];
    return withoutThose(findings, [...shut.rows, ...late.rows]);
  },
};

/** Stages whose owner is gone, or whose job should have been closed. Those whose hint was lost are found by their queue. */
export const checkStages: Check = {
  name: "planning and reducing",
  ...twice(async ({ sql }) =>
    found("stalled-stage", await findStalledStages(sql, { lateMs, limit: maxListed }), describeStalled)
  ),
  async mend({ sql, id }, findings) {
    const { exhausted } = await interruptStages(sql);
    const error = { code: "interrupted", message: "planning or reducing a stage failed or was interrupted too often" };
    for (const jobId of exhausted) await closeJob(sql, id, jobId, { as: "failed", error });
    const { rows } = await findStalledStages(sql, { lateMs, limit: maxListed });
    return withoutThose(findings, rows);
  },
};

function describeStalled({ stageId, jobId, status, why, owner, leaseUntil }: StalledStage) {
  const what = {
    lease: `${owner}, who has it, has not renewed its lease since ${leaseUntil}`,
    bound: "it failed or was interrupted too often, and its job was not closed",
  };
  return {
    severity: "warning",
    subject_type: "stage",
    subject_id: stageId,
    job_id: jobId,
    stage_id: stageId,
    message: `stage ${stageId} of job ${jobId} is ${status}, but nobody works on it: ${what[why]}`,
    suggested_action:
      "apply: frees it and hints it again, or closes its job at the bound, as the sweep does; see that an orchestrator runs",
    repairable: true,
    evidence: [why, owner, leaseUntil],
  } as const;
}

function withoutThose(findings: readonly Finding[], rows: readonly { readonly stageId: number }[]): ReadonlySet<Finding> {
  const still = new Set(rows.map(({ stageId }) => String(stageId)));
  return new Set(findings.filter(({ subject_id }) => !still.has(subject_id)));
}

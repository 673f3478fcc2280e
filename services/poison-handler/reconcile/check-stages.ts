import { findLateStages, findShutStages, findStalledStages, type StalledStage } from "../../../shared/store/damage/stalled.ts";
import { openBarrier } from "../../../shared/store/stages.ts";
import { hintStagesAgain, interruptStages } from "../../../shared/store/sweep.ts";
import { expireTasks } from "../../../shared/store/tasks.ts";
import { type Check, type Finding, found, lateMs, maxListed, once, sliceSize, together, twice } from "./check.ts";
import { closeJob } from "./close-job.ts";

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
      const stageId = Number(subject_id);
      if (kind === "stuck-stage") await openBarrier(sql, id, stageId);
      else while ((await expireTasks(sql, id, { stageId, limit: sliceSize })).recorded.size === sliceSize);
    }
    const [shut, late] = [await findShutStages(sql, maxListed), await findLateStages(sql, { lateMs, limit: maxListed })];
    return withoutThose(findings, [...shut.rows, ...late.rows]);
  },
};

/** Stages that wait to be planned or reduced, and nobody does. */
export const checkStages: Check = {
  name: "planning and reducing",
  ...twice(async ({ sql }) =>
    found("stalled-stage", await findStalledStages(sql, { lateMs, limit: maxListed }), describeStalled)
  ),
  async mend({ sql, id }, findings) {
    const { exhausted } = await interruptStages(sql);
    await hintStagesAgain(sql);
    const error = { code: "interrupted", message: "planning or reducing a stage failed or was interrupted too often" };
    for (const jobId of exhausted) await closeJob(sql, id, jobId, error);
    const { rows } = await findStalledStages(sql, { lateMs, limit: maxListed });
    return withoutThose(findings, rows);
  },
};

function describeStalled({ stageId, jobId, status, why, owner, leaseUntil, sends }: StalledStage) {
  const what = {
    lease: `${owner}, who has it, has not renewed its lease since ${leaseUntil}`,
    hint: `nobody has it, and its last hint (number ${sends}) was sent long ago`,
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
      "apply: frees and hints it again, or closes its job at the bound, as the sweep does; see that an orchestrator runs",
    repairable: true,
    evidence: [why, owner, leaseUntil, sends],
  } as const;
}

function withoutThose(findings: readonly Finding[], rows: readonly { readonly stageId: number }[]): ReadonlySet<Finding> {
  const still = new Set(rows.map(({ stageId }) => String(stageId)));
  return new Set(findings.filter(({ subject_id }) => !still.has(subject_id)));
}

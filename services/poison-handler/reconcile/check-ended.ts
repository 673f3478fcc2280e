import { findStrayStages, findStrayTasks, type StrayTask } from "../../../shared/store/damage/open-rows.ts";
import { cancelStrayStages } from "../../../shared/store/damage/repairs.ts";
import { cancelStrayTasks, readStageTasks, sliceStage } from "../../../shared/store/tasks.ts";
import { type Check, type Description, found, maxListed, mendedOf, once, together } from "./check.ts";

/** What is open although its job has ended, or its stage is past. */
export const checkEnded: Check = {
  name: "open rows of what has ended",
  ...once(async ({ sql }) =>
    together([
      found("open-stage-in-ended-job", await findStrayStages(sql, maxListed), ({ stageId, jobId, status }) => ({
        severity: "error",
        subject_type: "stage",
        subject_id: stageId,
        job_id: jobId,
        stage_id: stageId,
        message: `stage ${stageId} is ${status}, but job ${jobId} has ended`,
        suggested_action: "apply: cancels the stage and what is open of it",
        repairable: true,
      })),
      found("open-task-in-ended-job", await findStrayTasks(sql, { jobHasEnded: true }, maxListed), describeTask),
      found("orphan-task", await findStrayTasks(sql, { jobHasEnded: false }, maxListed), describeTask),
    ])
  ),
  async mend({ sql, id }, findings) {
    const stages = findings.filter(({ kind }) => kind === "open-stage-in-ended-job");
    const ended = await cancelStrayStages(sql, stages.map(({ subject_id }) => Number(subject_id)));
    const cancelled = new Set<string>();
    const stageIds = new Set(findings.flatMap(({ stage_id }) => stage_id ?? []));
    for (const stage of await readStageTasks(sql, [...stageIds])) {
      for (const slice of sliceStage(stage)) {
        const { recorded } = await cancelStrayTasks(sql, id, slice);
        if (cancelled.size < maxListed * 2) { for (const claimId of recorded.keys()) cancelled.add(claimId); }
      }
    }
    const tasks = findings.filter(({ kind, evidence }) =>
      kind !== "open-stage-in-ended-job" && cancelled.has(JSON.parse(evidence))
    );
    return new Set([...mendedOf(stages, ended), ...tasks]);
  },
};

function describeTask({ taskId, stageId, jobId, status, claimId, jobHasEnded }: StrayTask): Description {
  return {
    severity: "error",
    subject_type: "task",
    subject_id: taskId,
    job_id: jobId,
    stage_id: stageId,
    task_id: taskId,
    message: `task ${taskId} of stage ${stageId} is ${status}, but ${
      jobHasEnded ? `job ${jobId} has ended` : `its stage is past in job ${jobId}`
    }`,
    suggested_action: "apply: cancels the task",
    repairable: true,
    evidence: claimId ?? String(taskId),
  };
}

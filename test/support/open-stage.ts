import { expect } from "vitest";
import type { Sql } from "../../shared/store/database.ts";
import { startJob, submitJob } from "../../shared/store/jobs.ts";
import { renewRunner } from "../../shared/store/runners.ts";
import { type ClaimedStage, insertTasks, sealStage, type StageSeed } from "../../shared/store/stages.ts";
import { claimTasks } from "../../shared/store/tasks.ts";

/** The job of `startedStage` and `openStage`. */
export const jobId = "a".repeat(64);
export const seed: StageSeed = {
  number: 1,
  name: "one",
  taskType: "t",
  queue: "tasks",
  tasksPerMessage: 1,
  timeoutMs: 60_000,
  deadlineMs: null,
};

/** The first stage of a job, owned by `orchestrator/1`. */
export async function startedStage(sql: Sql, overrides: Partial<StageSeed> & { jobId?: string } = {}): Promise<ClaimedStage> {
  const { jobId: id = jobId, ...stageOverrides } = overrides;
  await submitJob(sql, "api", {
    jobId: id,
    jobType: "j",
    parameters: {},
    processingPath: "bullmq",
    totalStages: 2,
    correlationId: "c",
  });
  const stage = await startJob(sql, "orchestrator/1", { jobId: id, run: 1, stage: { ...seed, ...stageOverrides } });
  if (!stage) throw new Error("the job did not start");
  return stage;
}

/** A sealed stage whose tasks are all sent, and a runner with a live lease. */
export async function openStage(
  sql: Sql,
  tasks: number,
  overrides: Partial<StageSeed> & { jobId?: string } = {},
): Promise<{ stage: ClaimedStage; taskIds: readonly number[] }> {
  const stage = await startedStage(sql, overrides);
  for (let startIndex = 0; startIndex < tasks; startIndex += 2_000) {
    const parameters = Array.from(
      { length: Math.min(2_000, tasks - startIndex) },
      (_, index) => ({ number: startIndex + index }),
    );
    expect(await insertTasks(sql, stage, { startIndex, parameters, tasksPerMessage: 1 })).toBe(true);
  }
  expect(await sealStage(sql, stage, tasks)).toEqual([]);
  await renewRunner(sql, { id: "runner", processingPath: "bullmq", queue: "tasks" });
  await sql`update outbox set status = 'queued', sent_at = now()`;
  const rows = await sql<{ id: number }[]>`select id from tasks where stage_id = ${stage.stageId} order by index`;
  return { stage, taskIds: rows.map(({ id }) => id) };
}

let claims = 0;
/** Claims a task for a runner; returns the claim id. */
export async function claim(sql: Sql, taskId: number, runnerId = "runner"): Promise<string> {
  const claimId = `${runnerId}:${++claims}`;
  const [answer] = await claimTasks(sql, runnerId, [{ taskId, claimId, alone: true }]);
  if (typeof answer !== "object") throw new Error(`task ${taskId} is ${answer}`);
  return claimId;
}

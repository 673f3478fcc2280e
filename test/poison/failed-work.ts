import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { createJudge } from "../../services/poison-handler/judge.ts";
import { redriveOnce } from "../../services/poison-handler/redrive.ts";
import type { Sql } from "../../shared/store/database.ts";
import { endStoppedJobs, startJob, submitJob } from "../../shared/store/jobs.ts";
import { findUnjudged } from "../../shared/store/poison.ts";
import { renewRunner } from "../../shared/store/runners.ts";
import { decideStage, insertTasks, sealStage, type StageEnd, type StageSeed, takeStage } from "../../shared/store/stages.ts";
import {
  type AttemptEnd,
  cancelTasks,
  claimTasks,
  findStagesWithOpenTasks,
  recordAttempts,
  sliceStage,
} from "../../shared/store/tasks.ts";
import { createTestApi } from "../api/support.ts";

const silent = pino({ level: process.env.TEST_LOG_LEVEL ?? "silent" });
const retry = { maxFailures: 1, backoffMs: 0, maxBackoffMs: 0 };
let claims = 0;

export const greetingSeed: StageSeed = {
  number: 1,
  name: "greeting",
  taskType: "hello_world_greeting",
  queue: "tasks",
  tasksPerMessage: 1,
  timeoutMs: 60_000,
  deadlineMs: null,
};

export interface OpenJob {
  readonly jobId: string;
  readonly stageId: number;
  readonly taskIds: readonly number[];
}

/** A hello_world job whose first stage has so many tasks; `sealed` false leaves it as its planner left it. */
export async function openJob(sql: Sql, tasks: number, { name = "one", sealed = true, run = 1 } = {}): Promise<OpenJob> {
  const jobId = createHash("sha256").update(name).digest("hex");
  await submitJob(sql, "api", {
    jobId,
    jobType: "hello_world",
    parameters: { n: tasks, name },
    processingPath: "bullmq",
    totalStages: 2,
    correlationId: "c",
  });
  const stage = await startJob(sql, `planner/${name}`, { jobId, run, stage: greetingSeed });
  if (!stage) throw new Error("the job did not start");
  const parameters = Array.from(
    { length: tasks },
    (_, index) => ({ task_number: index + 1, name, message: null, failure_rate: 0 }),
  );
  await insertTasks(sql, stage, { startIndex: 0, parameters, tasksPerMessage: 1 });
  if (sealed) await sealStage(sql, stage, tasks);
  await renewRunner(sql, { id: "runner", processingPath: "bullmq", queue: "tasks" });
  const rows = await sql<{ id: number }[]>`select id from tasks where stage_id = ${stage.stageId} order by index`;
  return { jobId, stageId: stage.stageId, taskIds: rows.map(({ id }) => id) };
}

/** Claims the tasks and ends these attempts; those that couldn't be claimed are an error. */
export async function end(sql: Sql, taskIds: readonly number[], outcome: "completed" | "failed"): Promise<void> {
  const claimed = taskIds.map((taskId) => ({ taskId, claimId: `runner:${++claims}` }));
  const answers = await claimTasks(sql, "runner", claimed);
  if (answers.some((answer) => typeof answer === "string")) throw new Error(`not claimed: ${answers}`);
  await recordAttempts(
    sql,
    "runner",
    claimed.map((claim): AttemptEnd =>
      outcome === "completed"
        ? { ...claim, outcome, result: { by: claim.claimId } }
        : { ...claim, outcome, error: { code: "error", message: "file 17 is not there" }, permanent: false, retry }
    ),
  );
}

/** Judges what was recorded with the rows of failed tasks, as a poison-handler does each second. Returns the ids. */
export async function judgeFailures(sql: Sql): Promise<readonly number[]> {
  const judge = createJudge({ sql, id: "poison-1", graceMs: 1_000, log: silent });
  const poisonIds = await findUnjudged(sql, 10_000);
  await Promise.all(poisonIds.map((poisonId) => judge(poisonId)));
  return poisonIds;
}

/** Closes the open tasks of a job that is stopping, and ends it. */
export async function endStopped(sql: Sql, jobId: string): Promise<void> {
  for (const stage of await findStagesWithOpenTasks(sql, jobId)) {
    for (const slice of sliceStage(stage)) await cancelTasks(sql, "sweep", slice);
  }
  await endStoppedJobs(sql, jobId);
}

/** Takes the stage, which must be reduced now, and decides. */
export async function decide(sql: Sql, { jobId, stageId }: OpenJob, then: StageEnd["then"]): Promise<void> {
  const [row] = await sql<{ run: number; number: number; planned: number; completed: number; failed: number }[]>`
    select run, number, planned, completed, failed from stages where id = ${stageId}`;
  if (!row) throw new Error(`no stage ${stageId}`);
  const stage = await takeStage(sql, "reducer", stageId, row.run);
  if (!stage) throw new Error(`stage ${stageId} of ${jobId} was not taken`);
  const { number, planned, completed, failed } = row;
  await decideStage(sql, stage, {
    then,
    result: {
      stage_number: number,
      stage_key: "greeting",
      status: failed === 0 ? "completed" : "completed_with_errors",
      task_count: planned,
      successful_tasks: completed,
      failed_tasks: failed,
      success_rate: 0,
      completed_at: "",
      metadata: {},
      orchestration: { action: "advance" },
    },
  });
}

export const failJob: StageEnd["then"] = { action: "fail-job", error: { code: "stage-failed", message: "too many" } };
export const completeJob: StageEnd["then"] = { action: "end-job", status: "completed_with_errors", result: {} };

/** What an operator asks of the api, and what the poison-handler then does about it. */
export interface Operator {
  // deno-lint-ignore no-explicit-any
  preview(request: Record<string, unknown>): Promise<any>;
  /** Previews and starts; returns the id. */
  start(request: Record<string, unknown>): Promise<number>;
  // deno-lint-ignore no-explicit-any
  get(redriveId: number): Promise<any>;
  // deno-lint-ignore no-explicit-any
  post(path: string, body: unknown): Promise<{ status: number; body: any }>;
  /** One round of a poison-handler. */
  work(id?: string): Promise<boolean>;
  /** Every item's outcome, in order; with its reason, if it has one. */
  outcomes(redriveId: number): Promise<readonly string[]>;
}

export function createOperator(sql: Sql): Operator {
  const api = createTestApi(sql, { allowAdminRoutes: true });
  const post = (path: string, body: unknown) => api.post(path, JSON.stringify(body), { "x-operator": "ada" });
  const { signal } = new AbortController();
  const whenPreviewed: Operator["get"] = async (redriveId) => {
    for (const giveUpAt = Date.now() + 300_000; Date.now() < giveUpAt; await sleep(100)) {
      const { body } = await api.get(`/api/poison/redrives/${redriveId}`);
      if (body.status !== "selecting") return body;
    }
    throw new Error(`redrive ${redriveId} is still selecting`);
  };
  const preview: Operator["preview"] = async (request) => {
    const { status, body } = await post("/api/poison/redrives", request);
    if (status === 202) return await whenPreviewed(body.redrive_id);
    if (status !== 201) throw new Error(`${status} ${JSON.stringify(body)}`);
    return body;
  };
  return {
    preview,
    post,
    async start(request) {
      const { redrive_id, items } = await preview(request);
      const { status } = await post(`/api/poison/redrives/${redrive_id}/start`, { expected_items: items });
      if (status !== 202) throw new Error(`the redrive did not start: ${status}`);
      return redrive_id;
    },
    get: async (redriveId) => (await api.get(`/api/poison/redrives/${redriveId}`)).body,
    work: (id = "poison-1") => redriveOnce({ sql, id, log: silent }, signal),
    async outcomes(redriveId) {
      const rows = await sql<{ outcome: string }[]>`
        select status || coalesce(' ' || reason, '') as outcome from redrive_items where redrive_id = ${redriveId} order by id`;
      return rows.map(({ outcome }) => outcome);
    },
  };
}

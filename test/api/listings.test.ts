import { describe, expect } from "vitest";
import type { Sql } from "../../shared/store/database.ts";
import { startJob, submitJob } from "../../shared/store/jobs.ts";
import { claimTaskBatches, markSent } from "../../shared/store/outbox.ts";
import { insertTasks, sealStage } from "../../shared/store/stages.ts";
import { claimTasks } from "../../shared/store/tasks.ts";
import { test } from "../support/database.ts";
import { createTestApi, sha256, type TestApi } from "./support.ts";

const seed = {
  number: 1,
  name: "greeting",
  taskType: "hello_world_greeting",
  queue: "tasks",
  tasksPerMessage: 1,
  timeoutMs: 30_000,
  deadlineMs: null,
};

/** A job of two stages, whose first has `n` tasks. */
async function seedJob(sql: Sql, name: string, n: number): Promise<{ jobId: string; stageId: number }> {
  const jobId = sha256(name);
  await submitJob(sql, "tests", {
    jobId,
    jobType: "hello_world",
    parameters: { name },
    processingPath: "bullmq",
    totalStages: 2,
    correlationId: `correlation-${name}`,
  });
  const stage = await startJob(sql, "tests", { jobId, run: 1, stage: seed });
  if (!stage) throw new Error("the job did not start");
  for (let startIndex = 0; startIndex < n; startIndex += 10_000) {
    const parameters = Array.from({ length: Math.min(10_000, n - startIndex) }, (_, i) => ({ task_number: startIndex + i + 1 }));
    await insertTasks(sql, stage, { startIndex, parameters, tasksPerMessage: 1 });
  }
  await sealStage(sql, stage, n);
  return { jobId, stageId: stage.stageId };
}

async function readPages(
  api: TestApi,
  path: string,
  key: string,
): Promise<{ rows: readonly Record<string, unknown>[]; sizes: readonly number[] }> {
  const rows: Record<string, unknown>[] = [];
  const sizes: number[] = [];
  for (let cursor: string | null = "";;) {
    const { status, body } = await api.get(`${path}${cursor ? `&cursor=${cursor}` : ""}`);
    expect(status).toBe(200);
    rows.push(...body[key]);
    sizes.push(body[key].length);
    expect(body.query_info.total_found).toBe(body[key].length);
    cursor = body.next_cursor;
    if (cursor === null) return { rows, sizes };
  }
}

describe("/api/jobs/status", () => {
  test("tells, in camelCase, how far each stage is", async ({ sql }) => {
    const { jobId } = await seedJob(sql, "a", 250);
    await sql`update tasks set status = 'cancelled', ended_at = now() where index < 10`;
    await sql`update stages set cancelled = 10`;
    const tasks = await sql<{ id: number }[]>`select id from tasks where index between 10 and 12`;
    await claimTasks(sql, "runner-1", tasks.map(({ id }) => ({ taskId: id, claimId: `claim-${id}` })));
    const { status, body } = await createTestApi(sql).get(`/api/jobs/status/${jobId}`);
    expect(status).toBe(200);
    expect(body).toEqual({
      jobId,
      jobType: "hello_world",
      status: "processing",
      stage: 1,
      totalStages: 2,
      parameters: { name: "a" },
      stageResults: {},
      stages: [{
        stage: 1,
        name: "greeting",
        taskType: "hello_world_greeting",
        status: "open",
        run: 1,
        counts: { planned: 250, pending: 237, processing: 3, completed: 0, failed: 0, cancelled: 10 },
        progress: 4,
      }],
      processingPath: "bullmq",
      run: 1,
      correlationId: "correlation-a",
      createdAt: expect.stringMatching(/Z$/),
      updatedAt: expect.stringMatching(/Z$/),
      startedAt: expect.stringMatching(/Z$/),
      links: expect.objectContaining({ tasks: `/api/db/tasks/${jobId}` }),
    });
  });

  test("of an ended job has results and error", async ({ sql }) => {
    const { jobId, stageId } = await seedJob(sql, "a", 0);
    await sql`update stages set status = 'completed', ended_at = now(), result = ${
      sql.json({ stage_number: 1, success_rate: 100 })
    } where id = ${stageId}`;
    await sql`
      update jobs set status = 'failed', ended_at = now(), result = '{"x": 1}', error = ${
      sql.json({ code: "task-failed", message: "it broke" })
    }`;
    const api = createTestApi(sql);
    const { body } = await api.get(`/api/jobs/status/${jobId}`);
    expect(body).toMatchObject({
      status: "failed",
      stageResults: { "1": { stage_number: 1, success_rate: 100 } },
      stages: [{ progress: 100, counts: { planned: 0 } }],
      resultData: { x: 1 },
      errorDetails: "it broke",
      errorCode: "task-failed",
      endedAt: expect.any(String),
    });
    expect((await api.get(`/api/db/jobs/${jobId}`)).body).toMatchObject({
      job_id: jobId,
      job_type: "hello_world",
      status: "failed",
      stage: 1,
      total_stages: 2,
      stage_results: { "1": { stage_number: 1 } },
      result_data: { x: 1 },
      error_details: { code: "task-failed", message: "it broke" },
      processing_path: "bullmq",
    });
  });
});

describe("/api/db/jobs", () => {
  test("gives every job once, newest first, also among jobs of one moment", async ({ sql }) => {
    await sql.begin(async (tx) => {
      for (let n = 0; n < 23; n++) {
        await tx`
          insert into jobs (id, job_type, parameters, processing_path, total_stages, correlation_id, created_at)
          values (${sha256(String(n))}, ${n % 2 ? "odd" : "even"}, '{}', 'bullmq', 1, 'x',
            timestamptz '2026-01-01T00:00:00.123456Z' + ${Math.floor(n / 5)} * interval '1 microsecond')`;
      }
    });
    const api = createTestApi(sql);
    const expected = (await sql<{ id: string }[]>`select id from jobs order by created_at desc, id`).map(({ id }) => id);
    for (const limit of [1, 4, 5, 23, 100]) {
      const { rows, sizes } = await readPages(api, `/api/db/jobs?limit=${limit}`, "jobs");
      expect(rows.map((row) => row.job_id)).toEqual(expected);
      expect(sizes.every((size) => size <= limit)).toBe(true);
    }
    const { rows } = await readPages(api, "/api/db/jobs?limit=3&job_type=odd&status=queued", "jobs");
    expect(rows).toHaveLength(11);
    const { body } = await api.get("/api/db/jobs");
    expect(body.jobs).toHaveLength(10);
    expect(body.query_info).toEqual({
      limit: 10,
      hours_back: null,
      status_filter: null,
      job_type_filter: null,
      total_found: 10,
      execution_time_ms: expect.any(Number),
    });
    expect((await api.get("/api/db/jobs?hours=1&status=failed")).body.jobs).toEqual([]);
    await sql`update jobs set created_at = now() - interval '59 minutes' where id = ${sha256("0")}`;
    expect((await api.get("/api/db/jobs?hours=1")).body.jobs).toHaveLength(1);
  });
});

describe("/api/db/tasks", () => {
  test("filters the tasks of all jobs, newest first", async ({ sql }) => {
    const a = await seedJob(sql, "a", 30);
    await seedJob(sql, "b", 30);
    await sql`update tasks set status = 'failed', ended_at = now() where stage_id = ${a.stageId} and index in (3, 5)`;
    const api = createTestApi(sql);
    const { rows } = await readPages(api, "/api/db/tasks?limit=7", "tasks");
    const ids = rows.map((row) => Number(row.task_id));
    expect(ids).toEqual([...ids].sort((x, y) => y - x));
    expect(new Set(ids).size).toBe(60);
    const failed = await api.get("/api/db/tasks?status=failed&job_type=hello_world&stage=1&hours=1");
    expect(failed.body.tasks.map((row: { task_index: number }) => row.task_index)).toEqual([5, 3]);
    expect(failed.body.query_info).toMatchObject({ limit: 50, status_filter: "failed", stage_filter: 1, total_found: 2 });
    expect((await api.get("/api/db/tasks?stage=2")).body.tasks).toEqual([]);
    expect((await api.get("/api/db/tasks?job_type=other")).body.tasks).toEqual([]);
  });

  test("a pending task shows whether its batch was sent", async ({ sql }) => {
    const { jobId } = await seedJob(sql, "a", 200);
    const [batch] = await claimTaskBatches(sql, "tests", "bullmq", { window: 100, limit: 1 });
    await markSent(sql, "tests", [batch?.id ?? 0]);
    await claimTasks(sql, "runner-1", [{ taskId: batch?.taskIds[0] ?? 0, claimId: "claim-1" }]);
    const { body } = await createTestApi(sql).get(`/api/db/tasks/${jobId}?limit=1000`);
    const shown = body.tasks.map((task: Record<string, unknown>) => task.queue_status ?? task.status);
    expect(shown).toEqual(["processing", ...Array(99).fill("queued"), ...Array(100).fill("pending_queue")]);
    expect(body.tasks[0]).toMatchObject({
      parent_job_id: jobId,
      job_type: "hello_world",
      task_type: "hello_world_greeting",
      status: "processing",
      queue_status: null,
      stage: 1,
      task_index: 0,
      parameters: { task_number: 1 },
      result_data: null,
      error_details: null,
      retry_count: 0,
      attempt: 1,
      runner_id: "runner-1",
      batch_id: `${jobId}-s1-r1-b0`,
    });
  });

  test("of a job come in the order of stage and index, page by page", async ({ sql }) => {
    const { jobId, stageId } = await seedJob(sql, "a", 205);
    await seedJob(sql, "b", 5);
    await sql`
      insert into stages (job_id, number, name, task_type, queue, timeout_ms, run, planned, next_index)
      values (${jobId}, 2, 'reply', 'hello_world_reply', 'tasks', 1000, 2, 103, 103)`;
    const [reply] = await sql<{ id: number }[]>`select id from stages where number = 2`;
    await sql`
      insert into tasks (stage_id, index, parameters, outbox_id)
      select ${reply?.id ?? 0}, index, '{}', 1 from generate_series(0, 102) as index`;
    await sql`update tasks set status = 'failed' where stage_id = ${stageId} and index % 50 = 0`;
    const api = createTestApi(sql);
    const all = [...Array.from({ length: 205 }, (_, i) => `1:${i}`), ...Array.from({ length: 103 }, (_, i) => `2:${i}`)];
    const read = async (query: string) =>
      (await readPages(api, `/api/db/tasks/${jobId}?${query}`, "tasks")).rows.map((row) => `${row.stage}:${row.task_index}`);
    for (const limit of [7, 100, 205, 308, 1000]) expect(await read(`limit=${limit}`)).toEqual(all);
    expect(await read("limit=50&stage=2")).toEqual(all.slice(205));
    expect(await read("limit=2&status=failed")).toEqual(["1:0", "1:50", "1:100", "1:150", "1:200"]);
    await sql`update stages set discarded_at = now() where number = 2`;
    expect(await read("limit=100")).toEqual(all.slice(0, 205));
  });

  test("200,000 of one job are read cheaply at any depth", async ({ sql }) => {
    const { jobId } = await seedJob(sql, "a", 200_000);
    const api = createTestApi(sql);
    const cursor = btoa(JSON.stringify({ stage: 1, index: 198_999 })).replaceAll("=", "");
    await api.get(`/api/db/tasks/${jobId}?limit=1000`);
    const { body } = await api.get(`/api/db/tasks/${jobId}?limit=1000&cursor=${cursor}`);
    expect(body.tasks.map((task: { task_index: number }) => task.task_index)).toEqual(
      Array.from({ length: 1000 }, (_, i) => 199_000 + i),
    );
    expect(body.next_cursor).toBeNull();
    expect(body.query_info.execution_time_ms).toBeLessThan(200);
    const status = await api.get(`/api/jobs/status/${jobId}`);
    expect(status.body.stages).toMatchObject([{ counts: { planned: 200_000, pending: 200_000, processing: 0 } }]);
  });
});

test("/api/db/batches lists what is sent and what waits", async ({ sql }) => {
  const { jobId } = await seedJob(sql, "a", 250);
  const [batch] = await claimTaskBatches(sql, "tests", "bullmq", { window: 100, limit: 1 });
  await markSent(sql, "tests", [batch?.id ?? 0]);
  const api = createTestApi(sql);
  const { body } = await api.get(`/api/db/batches/${jobId}`);
  expect(body.totals).toEqual({ batches: 4, pending_queue: 3, queued: 1, task_hints: 250 });
  expect(body.batches.map((row: Record<string, unknown>) => [row.batch_id, row.kind, row.task_count, row.batch_status])).toEqual([
    [`${jobId}-r1-start`, "start-job", 0, "pending_queue"],
    [`${jobId}-s1-r1-b0`, "tasks", 100, "queued"],
    [`${jobId}-s1-r1-b100`, "tasks", 100, "pending_queue"],
    [`${jobId}-s1-r1-b200`, "tasks", 50, "pending_queue"],
  ]);
  expect(body.batches[1]).toMatchObject({
    batch_time: expect.stringMatching(/Z$/),
    sent_at: expect.stringMatching(/Z$/),
    sends: 1,
    stage: 1,
  });
  const { rows } = await readPages(api, `/api/db/batches/${jobId}?limit=1&status=pending_queue`, "batches");
  expect(rows).toHaveLength(3);
});

test("/api/db/stats counts the rows", async ({ sql }) => {
  const { stageId } = await seedJob(sql, "a", 40);
  await sql`update tasks set status = 'failed', ended_at = now() where stage_id = ${stageId} and index < 3`;
  await sql`update stages set failed = 3`;
  const [task] = await sql<{ id: number }[]>`select id from tasks where index = 20`;
  await claimTasks(sql, "runner-1", [{ taskId: task?.id ?? 0, claimId: "claim-1" }]);
  const { status, body } = await createTestApi(sql).get("/api/db/stats");
  expect(status).toBe(200);
  const { rows_by_status, activity_summary, table_statistics, index_usage } = body.database_statistics;
  expect(rows_by_status).toEqual({
    jobs: { processing: 1 },
    stages: { open: 1 },
    tasks: { pending: 36, processing: 1, failed: 3 },
    batches: { pending_queue: 2 },
  });
  expect(activity_summary).toMatchObject({ jobs_submitted_last_hour: 1, jobs_ended_last_day: 0, live_runners: {} });
  expect(table_statistics.map((row: { table_name: string }) => row.table_name)).toContain("tasks");
  expect(index_usage.map((row: { index_name: string }) => row.index_name)).toContain("tasks_open");
});

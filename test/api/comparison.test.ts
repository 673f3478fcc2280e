import { expect } from "vitest";
import type { Sql } from "../../shared/store/database.ts";
import { test } from "../support/database.ts";
import { createTestApi } from "./support.ts";

/** When things happened, in milliseconds after the job was submitted. */
interface Course {
  readonly id: string;
  readonly path: string;
  readonly type: string;
  readonly status?: string;
  readonly endedAt: number;
  readonly stages: readonly {
    readonly sentAt: number;
    readonly reducingAt: number;
    readonly tasks: readonly { readonly claimedAt: number; readonly failures?: number; readonly status?: string }[];
  }[];
}

const submittedAt = Date.now() - 600_000;

/** Rows as the pipeline would have left them, at times of the test's choice. */
async function record(sql: Sql, { id, path, type, status = "completed", endedAt, stages }: Course): Promise<void> {
  const jobId = id.repeat(64);
  const at = (ms: number) => new Date(submittedAt + ms);
  await sql`
    insert into jobs (id, job_type, parameters, processing_path, status, total_stages, correlation_id, created_at, started_at, ended_at)
    values (${jobId}, ${type}, '{}', ${path}, ${status}, ${Math.max(1, stages.length)}, 'tests', ${at(0)}, ${at(1)}, ${
    at(endedAt)
  })`;
  for (const [position, { sentAt, reducingAt, tasks }] of stages.entries()) {
    const failed = tasks.filter((task) => task.status === "failed").length;
    const [stage] = await sql<{ id: number }[]>`
      insert into stages (job_id, number, name, task_type, queue, timeout_ms, status, run, planned, sealed, completed, failed, next_index,
        created_at, sealed_at, reducing_at, ended_at)
      values (${jobId}, ${position + 1}, 's', 't', 'tasks', 1000, 'completed', 1, ${tasks.length}, true, ${tasks.length - failed},
        ${failed}, ${tasks.length}, ${at(sentAt - 8 * (position + 1))}, ${at(sentAt - 1)}, ${at(reducingAt)}, ${at(reducingAt)})
      returning id`;
    for (const [index, task] of tasks.entries()) {
      const attempt = (task.failures ?? 0) + (task.status === "failed" ? 0 : 1);
      const [batch] = await sql<{ id: number }[]>`select nextval('outbox_id_seq')::int as id`;
      const [row] = await sql<{ id: number }[]>`
        insert into tasks (stage_id, index, parameters, status, attempt, claimed_at, failures, outbox_id, result, result_attempt, ended_at)
        values (${stage?.id ?? 0}, ${index}, '{}', ${task.status ?? "completed"}, ${attempt}, ${at(task.claimedAt)},
          ${task.failures ?? 0}, ${batch?.id ?? 0}, ${task.status === "failed" ? null : sql`'{}'::jsonb`},
          ${task.status === "failed" ? null : attempt}, ${at(task.claimedAt + 5)})
        returning id`;
      await sql`
        insert into outbox (id, batch_id, job_id, stage_id, transport, queue, kind, run, task_ids, status, sends, created_at, sent_at)
        values (${batch?.id ?? 0}, ${`${jobId}-${position}-${index}`}, ${jobId}, ${stage?.id ?? 0}, ${path}, 'tasks', 'tasks', 1,
          array[${row?.id ?? 0}::bigint], 'queued', 1, ${at(sentAt - 4)}, ${at(sentAt)})`;
      if (task.status === "failed") {
        await sql`
          insert into events (job_id, stage_id, task_id, kind, details)
          values (${jobId}, ${stage?.id ?? 0}, ${row?.id ?? 0}, 'task-attempt-failed', '{"error": {"code": "timed-out"}}')`;
      }
    }
  }
}

test("every figure is what the rows say", async ({ sql }) => {
  // Two jobs of two stages of two tasks on Service Bus, one on Queue Storage that has a task time out.
  await record(sql, {
    id: "a",
    path: "service_bus",
    type: "hello_world",
    endedAt: 400,
    stages: [
      { sentAt: 10, reducingAt: 100, tasks: [{ claimedAt: 20 }, { claimedAt: 30 }] },
      { sentAt: 110, reducingAt: 390, tasks: [{ claimedAt: 120 }, { claimedAt: 150, failures: 1 }] },
    ],
  });
  await record(sql, {
    id: "b",
    path: "service_bus",
    type: "hello_world",
    endedAt: 600,
    stages: [
      { sentAt: 10, reducingAt: 100, tasks: [{ claimedAt: 50 }, { claimedAt: 60 }] },
      { sentAt: 110, reducingAt: 590, tasks: [{ claimedAt: 160 }, { claimedAt: 160 }] },
    ],
  });
  await record(sql, {
    id: "c",
    path: "storage_queue",
    type: "hello_world",
    status: "completed_with_errors",
    endedAt: 2_000,
    stages: [{ sentAt: 100, reducingAt: 1_990, tasks: [{ claimedAt: 200 }, { claimedAt: 300, status: "failed", failures: 1 }] }],
  });
  await record(sql, { id: "d", path: "bullmq", type: "other", status: "failed", endedAt: 50, stages: [] });

  const api = createTestApi(sql, { isEmulator: (name) => name === "storage_queue" });
  const { status, body } = await api.get("/api/metrics/comparison?job_type=hello_world");
  expect(status).toBe(200);
  expect(body.rows).toEqual([
    {
      processing_path: "service_bus",
      emulator: false,
      job_type: "hello_world",
      jobs: 2,
      failed_jobs: 0,
      tasks: 8,
      failed_tasks: 0,
      attempts: 9,
      timed_out_attempts: 0,
      timeout_rate: 0,
      retries: 1,
      tasks_per_second: 8, // 8 tasks in 0.4 + 0.6 s
      latency_ms: {
        submit_to_first_task: { mean: 35, p50: 35, p95: 48.5, p99: 49.7 }, // 20, 50
        fan_out: { mean: 12, p50: 12, p95: 16, p99: 16 }, // 8, 8, 16, 16
        queue_wait: { mean: 33.75, p50: 40, p95: 50, p99: 50 }, // 10, 10, 20, 40, 40, 50, 50, 50
        barrier_to_next_stage: { mean: 40, p50: 40, p95: 58, p99: 59.6 }, // 20, 60
        job: { mean: 500, p50: 500, p95: 590, p99: 598 },
      },
      messages: 8,
      broker_operations: 24,
      cost: 24 * 0.05 / 1_000_000,
    },
    {
      processing_path: "storage_queue",
      emulator: true,
      job_type: "hello_world",
      jobs: 1,
      failed_jobs: 0,
      tasks: 2,
      failed_tasks: 1,
      attempts: 2,
      timed_out_attempts: 1,
      timeout_rate: 50,
      retries: 1,
      tasks_per_second: 1,
      latency_ms: {
        submit_to_first_task: { mean: 200, p50: 200, p95: 200, p99: 200 },
        fan_out: { mean: 8, p50: 8, p95: 8, p99: 8 },
        queue_wait: { mean: 150, p50: 150, p95: 195, p99: 199 },
        barrier_to_next_stage: { mean: null, p50: null, p95: null, p99: null },
        job: { mean: 2_000, p50: 2_000, p95: 2_000, p99: 2_000 },
      },
      messages: 2,
      broker_operations: 6,
      cost: 6 * 0.4 / 1_000_000,
    },
  ]);
  expect(body.ratios).toEqual([{
    job_type: "hello_world",
    processing_path: "service_bus",
    compared_with: "storage_queue",
    tasks_per_second: 8,
    median_job: 4,
  }]);

  const all = await api.get("/api/metrics/comparison");
  expect(all.body.rows).toHaveLength(3);
  expect(all.body.rows.at(-1)).toMatchObject({ job_type: "other", jobs: 1, failed_jobs: 1, tasks: 0, tasks_per_second: null });

  const { body: one } = await api.get(`/api/metrics/comparison?job_id=${"b".repeat(64)}`);
  expect(one.rows).toMatchObject([{ processing_path: "service_bus", jobs: 1, tasks: 4, latency_ms: { job: { p50: 600 } } }]);
  expect((await api.get("/api/metrics/comparison?job_id=b")).body.errors).toMatchObject([{ field: "job_id" }]);

  const page = await api.get("/api/metrics/comparison?format=html");
  expect(page.headers.get("content-type")).toMatch("text/html");
  expect(page.body).toContain("storage_queue (emulator)");
  expect(page.body).not.toMatch(/https?:\/\/|<script/);
  expect((await api.get("/api/metrics/comparison?hours=0")).body.errors).toMatchObject([{ field: "hours" }]);
});

test("with nothing on record there is nothing to compare", async ({ sql }) => {
  const api = createTestApi(sql);
  const { body } = await api.get("/api/metrics/comparison");
  expect(body).toMatchObject({ hours: 24, rows: [], ratios: [] });
});

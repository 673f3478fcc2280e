import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { expect } from "vitest";
import { pino } from "pino";
import { loadConfig } from "../../services/task-runner/config.ts";
import { runTaskRunner } from "../../services/task-runner/run.ts";
import { defineHandler } from "../../services/task-runner/task-handler.ts";
import { openClaimCheck } from "../../shared/claim-check/open.ts";
import { defineJob } from "../../shared/jobs/define-job.ts";
import { defineTask } from "../../shared/jobs/define-task.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { openMemoryTransport } from "../../shared/transport/memory.ts";
import type { Transports } from "../../shared/transport/send-batches.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import { test } from "../support/database.ts";
import { jobId, openStage } from "../support/open-stage.ts";
import { startPipeline, whenEnded } from "../support/pipeline.ts";

const log = pino({ level: "silent" });
const nap = defineTask({
  type: "nap",
  params: v.object({ number: v.number() }),
  result: v.object({ number: v.number() }),
  retry: { maxFailures: 1 },
});
const range = (count: number) => Array.from({ length: count }, (_, number) => ({ number }));

test("the time-out of an attempt is its row's, whatever the runner's own definition says", async ({ sql }) => {
  const transport = openMemoryTransport();
  const short = defineTask({ ...nap, type: "short", timeoutMs: 200 });
  const long = defineTask({ ...nap, type: "long", timeoutMs: 60_000 });
  const pipeline = await startPipeline({
    sql,
    transport,
    jobs: [short, long].map((task) =>
      defineJob({
        type: task.type,
        description: "",
        params: v.object({}),
        stages: [{ name: "nap", task, plan: () => range(1) }],
      })
    ),
    // A runner of another version: what is short there is long here.
    handlers: [
      defineHandler({ ...short, timeoutMs: 60_000 }, async (_, { signal }) => {
        await sleep(60_000, undefined, { signal });
        return { number: 0 };
      }),
      defineHandler({ ...long, timeoutMs: 200 }, async ({ number }) => {
        await sleep(600);
        return { number };
      }),
    ],
  });
  const [shortId, longId] = await Promise.all([pipeline.submit("short", {}), pipeline.submit("long", {})]);
  expect(await whenEnded(sql, shortId)).toMatchObject({ status: "failed" });
  expect(await whenEnded(sql, longId)).toMatchObject({ status: "completed" });
  expect(await sql`select error from tasks where status = 'failed'`).toEqual([
    { error: expect.objectContaining({ code: "timed-out", message: "timed out after 200 ms" }) },
  ]);
  expect(await sql`select from tasks where interruptions > 0 or attempt <> 1`).toHaveLength(0);
  await pipeline.stop();
  await transport.close();
});

test(
  "no more tasks run at once than CONCURRENCY, of all queues and messages; those that wait lose neither lock nor time",
  async ({ sql }) => {
    let running = 0;
    let most = 0;
    const transport = openMemoryTransport({ lockMs: 300 });
    const task = defineTask({ ...nap, timeoutMs: 500 });
    const handler = defineHandler(task, async ({ number }) => {
      most = Math.max(most, ++running);
      await sleep(20);
      running -= 1;
      return { number };
    });
    const job = (type: string, queue?: string) =>
      defineJob({
        type,
        description: "",
        params: v.object({}),
        stages: [{ name: "nap", task, plan: () => range(100), tasksPerMessage: 50, ...(queue && { queue }) }],
      });
    const pipeline = await startPipeline({
      sql,
      transport,
      jobs: [job("shares_queue"), job("has_queue", "own-queue")],
      handlers: [handler],
      // Whatever waits longer than its time-out after it was claimed is interrupted.
      environment: { CONCURRENCY: "3", ATTEMPT_GRACE_MS: "0", SWEEP_INTERVAL_MS: "100" },
    });
    const jobIds = await Promise.all(["shares_queue", "has_queue"].map((type) => pipeline.submit(type, {})));
    for (const id of jobIds) expect(await whenEnded(sql, id)).toMatchObject({ status: "completed" });
    expect(most).toBe(3);
    expect(await sql`select from tasks where attempt <> 1 or interruptions > 0 or resends > 0`).toHaveLength(0);
    expect(await findViolations(sql)).toEqual([]);
    await pipeline.stop();
    await transport.close();
  },
);

test("a stop begins none of the tasks that wait: they stay pending, and their message goes back", async ({ sql }) => {
  const finish = Promise.withResolvers<void>();
  const begun: number[] = [];
  const transport = openMemoryTransport();
  const pipeline = await startPipeline({
    sql,
    transport,
    jobs: [
      defineJob({
        type: "naps",
        description: "",
        params: v.object({}),
        stages: [{ name: "nap", task: nap, plan: () => range(30), tasksPerMessage: 10 }],
      }),
    ],
    handlers: [defineHandler(nap, async ({ number }) => {
      begun.push(number);
      await finish.promise;
      return { number };
    })],
    environment: { CONCURRENCY: "2", PREFETCH: "2" },
  });
  await pipeline.submit("naps", {});
  await expect.poll(() => begun.length, { timeout: 20_000 }).toBe(2);
  const stopped = pipeline.stop();
  // The message that none of its tasks has begun goes back at once, though others still run.
  const other = await transport.receive(pipeline.queues.tasks, { max: 3, signal: AbortSignal.timeout(4_000) });
  expect(other.length).toBeGreaterThan(0);
  finish.resolve();
  await stopped;
  expect(begun).toHaveLength(2);
  expect(await sql`select status, attempt, count(*)::int from tasks group by 1, 2 order by 1`).toEqual([
    { status: "completed", attempt: 1, count: 2 },
    { status: "pending", attempt: 0, count: 28 },
  ]);
  expect(await transport.counts(pipeline.queues.tasks)).toEqual({ active: 3, deadLettered: 0 });
  expect(await findViolations(sql)).toEqual([]);
  await transport.close();
});

test("a broker that is silent about the hint of a barrier holds up neither the result nor its message", async ({ sql }) => {
  const memory = openMemoryTransport();
  const answers = Promise.withResolvers<void>();
  let waiting = 0;
  let stages = "";
  const transport: Transport = {
    ...memory,
    async send(queue, messages) {
      if (queue === stages) {
        waiting += 1;
        await answers.promise;
      }
      await memory.send(queue, messages);
    },
  };
  const pipeline = await startPipeline({
    sql,
    transport,
    jobs: [
      defineJob({
        type: "naps",
        description: "",
        params: v.object({}),
        stages: [{ name: "nap", task: nap, plan: () => range(1) }],
      }),
    ],
    handlers: [defineHandler(nap, async ({ number }) => ({ number }))],
  });
  stages = pipeline.queues.stages;
  const napsId = await pipeline.submit("naps", {});
  await expect.poll(() => waiting, { timeout: 10_000 }).toBe(1);
  await expect.poll(() => transport.counts(pipeline.queues.tasks), { timeout: 10_000 }).toEqual({ active: 0, deadLettered: 0 });
  expect(await sql`select status from tasks`).toEqual([{ status: "completed" }]);
  expect(await sql`select status from stages`).toEqual([{ status: "reducing" }]);
  answers.resolve();
  expect(await whenEnded(sql, napsId)).toMatchObject({ status: "completed" });
  await pipeline.stop();
  await memory.close();
});

test("a stop waits for a hint that is being sent, but no longer than the relay would", async ({ sql }) => {
  const memory = openMemoryTransport();
  const { stage, taskIds } = await openStage(sql, 1, { taskType: nap.type });
  const transport: Transport = {
    ...memory,
    send: (queue, messages) => queue === "stages" ? new Promise(() => {}) : memory.send(queue, messages),
  };
  const transports: Transports = new Map([["bullmq", { transport, queues: { jobs: "jobs", stages: "stages", tasks: "tasks" } }]]);
  const [hint] = await sql<{ id: number }[]>`select id from outbox where kind = 'tasks'`;
  const header = { version: 1, jobId, correlationId: "c", run: stage.run, kind: "tasks" };
  await memory.send("tasks", [
    { messageId: `hint-${hint?.id}`, body: JSON.stringify({ ...header, stageId: stage.stageId, taskIds }) },
  ]);
  const stopping = new AbortController();
  const handler = defineHandler(nap, async ({ number }) => ({ number }));
  const ended = runTaskRunner(
    {
      sql,
      id: "runner-1",
      handlers: new Map([[nap.type, handler]]),
      transports,
      claimCheck: openClaimCheck({ directory: "/tmp" }),
      log,
    },
    { ...loadConfig({ DATABASE_URL: "postgres://unused", TRANSPORTS: "bullmq" }), queues: ["tasks"] },
    stopping.signal,
  );
  await expect.poll(() => sql`select status from stages`, { timeout: 20_000 }).toEqual([{ status: "reducing" }]);
  stopping.abort();
  await ended;
  expect(await sql`select status, last_error from outbox where kind = 'stage'`).toEqual([
    { status: "pending_queue", last_error: "no answer within 2000 ms" },
  ]);
  await memory.close();
});

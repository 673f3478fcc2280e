import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { expect } from "vitest";
import { defineHandler } from "../../services/task-runner/task-handler.ts";
import { defineJob } from "../../shared/jobs/define-job.ts";
import { defineTask } from "../../shared/jobs/define-task.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import { test } from "../support/database.ts";
import { startPipeline, whenEnded } from "../support/pipeline.ts";

test("a stop finishes what ends within the grace and releases the rest: no failure, no interruption, nothing lost", async ({ sql, database }) => {
  const nap = defineTask({ type: "nap", params: v.object({ ms: v.number() }), result: v.object({ ms: v.number() }) });
  const job = defineJob({
    type: "naps",
    description: "",
    params: v.object({}),
    stages: [{ name: "nap", task: nap, plan: () => [{ ms: 300 }, { ms: 60_000 }] }],
  });
  let patience = 60_000;
  const aborted: unknown[] = [];
  const handler = defineHandler(nap, async ({ ms }, { signal }) => {
    await sleep(Math.min(ms, patience), undefined, { signal }).catch((error) => {
      aborted.push(error);
      throw error;
    });
    return { ms };
  });
  const start = () =>
    startPipeline({
      sql,
      transport: openBullmqTransport({ databaseUrl: database.url }),
      jobs: [job],
      handlers: [handler],
      environment: { GRACE_MS: "1500" },
    });

  const first = await start();
  const jobId = await first.submit("naps", {});
  await expect.poll(async () => (await sql`select from tasks where status = 'processing'`).length, { timeout: 20_000 }).toBe(2);
  await first.stop();
  expect(await sql`select status, attempt, failures, interruptions from tasks order by index`).toEqual([
    { status: "completed", attempt: 1, failures: 0, interruptions: 0 },
    { status: "pending", attempt: 1, failures: 0, interruptions: 0 },
  ]);
  expect(aborted).toHaveLength(1);
  expect(await sql`select from runners`).toHaveLength(0);
  for (const { transport, queues } of first.transports.values()) {
    expect(await transport.counts(queues.tasks)).toEqual({ active: 0, deadLettered: 0 });
    await transport.close();
  }
  expect(await findViolations(sql)).toEqual([]);

  patience = 10;
  const second = await start();
  expect(await whenEnded(sql, jobId)).toMatchObject({ status: "completed" });
  await second.stop();
  for (const { transport } of second.transports.values()) await transport.close();
});

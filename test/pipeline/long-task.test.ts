import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { expect, onTestFinished } from "vitest";
import { startServiceBusBroker } from "../../dev/service-bus-broker/start.ts";
import { defineHandler } from "../../services/task-runner/task-handler.ts";
import { defineJob } from "../../shared/jobs/define-job.ts";
import { defineTask } from "../../shared/jobs/define-task.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { openServiceBusTransport } from "../../shared/transport/service-bus.ts";
import { test } from "../support/database.ts";
import { startPipeline, whenEnded } from "../support/pipeline.ts";

test("a task of 45 s under a lock of 5 s runs once, and its message is settled", async ({ sql }) => {
  const broker = await startServiceBusBroker();
  onTestFinished(() => broker.stop());
  const transport = openServiceBusTransport(broker, { lockMs: 5_000 });
  const long = defineTask({ type: "long", params: v.object({}), result: v.object({}) });
  let runs = 0;
  const pipeline = await startPipeline({
    sql,
    transport,
    jobs: [
      defineJob({ type: "long", description: "", params: v.object({}), stages: [{ name: "one", task: long, plan: () => [{}] }] }),
    ],
    handlers: [defineHandler(long, async (_, { signal }) => {
      runs += 1;
      await sleep(45_000, undefined, { signal });
      return {};
    })],
  });
  expect(await whenEnded(sql, await pipeline.submit("long", {}), 100_000)).toMatchObject({ status: "completed" });
  expect(runs).toBe(1);
  expect(await sql`select attempt, interruptions, resends from tasks`).toEqual([{ attempt: 1, interruptions: 0, resends: 0 }]);
  await pipeline.stop();
  expect(await transport.counts(pipeline.queues.tasks)).toEqual({ active: 0, deadLettered: 0 });
  await transport.close();
  expect(await findViolations(sql)).toEqual([]);
}, 120_000);

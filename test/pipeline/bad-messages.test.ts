import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { handleHelloWorldGreeting } from "../../services/task-runner/tasks/hello-world-greeting.ts";
import { handleHelloWorldReply } from "../../services/task-runner/tasks/hello-world-reply.ts";
import { helloWorld } from "../../shared/jobs/hello-world.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import type { LockedMessage, Transport } from "../../shared/transport/transport.ts";
import { type Broker, brokers } from "../support/brokers.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type Pipeline, startPipeline, whenEnded } from "../support/pipeline.ts";

const jobId = "0".repeat(64);
const header = { version: 1, jobId, run: 1 };
const starts = { ...header, kind: "start-job" };
const stages = { ...header, kind: "stage", stageId: 987_654 };
const tasks = { ...header, kind: "tasks", stageId: 987_654, taskIds: [987_654_321] };

/** What is put into each queue, the reason it must be dead-lettered with, and what the description must name. */
const bad: Record<"jobs" | "stages" | "tasks", readonly (readonly [body: unknown, reason: string, names: RegExp])[]> = {
  jobs: [
    ["", "invalid-message", /is empty/],
    ["not JSON {", "invalid-message", /is not valid JSON/],
    ["null", "invalid-message", /./],
    ["[]", "invalid-message", /version|jobId|kind/],
    ["x".repeat(45_000), "invalid-message", /is not valid JSON/],
    [{}, "invalid-message", /version/],
    [{ ...starts, version: 2 }, "invalid-message", /version/],
    [{ ...starts, kind: "tasks" }, "invalid-message", /kind/],
    [{ ...starts, jobId: "XYZ" }, "invalid-message", /jobId/],
    [{ ...starts, jobId: 7 }, "invalid-message", /jobId/],
    [{ ...starts, run: 0 }, "invalid-message", /run/],
    [starts, "unknown-job", /0000/],
  ],
  stages: [
    ["\u0000", "invalid-message", /is not valid JSON/],
    [{ ...stages, stageId: undefined }, "invalid-message", /stageId/],
    [{ ...stages, stageId: "1" }, "invalid-message", /stageId/],
    [{ ...stages, stageId: 1.5 }, "invalid-message", /stageId/],
    [{ ...stages, run: "1" }, "invalid-message", /run/],
    [stages, "unknown-job", /987654/],
  ],
  tasks: [
    ['{"version":1,"jobId":"' + jobId + '","taskIds":[1,2', "invalid-message", /is not valid JSON/],
    [{ ...tasks, taskIds: [] }, "invalid-message", /taskIds/],
    [{ ...tasks, taskIds: [-1] }, "invalid-message", /taskIds/],
    [{ ...tasks, taskIds: "all" }, "invalid-message", /taskIds/],
    [{ ...tasks, taskIds: Array.from({ length: 101 }, (_, index) => index + 1) }, "invalid-message", /taskIds/],
    [{ ...tasks, taskIds: [2 ** 60] }, "invalid-message", /taskIds/],
    [{ ...tasks, version: "1" }, "invalid-message", /version/],
    [tasks, "unknown-task", /987654321/],
  ],
};

describe.each(brokers)("bad messages over $name", ({ missing, start }) => {
  let database: TestDatabase;
  let broker: Broker;
  let transport: Transport;
  let pipeline: Pipeline;

  beforeAll(async () => {
    if (missing) return;
    [database, broker] = await Promise.all([createTestDatabase(), start()]);
    transport = broker.open();
    pipeline = await startPipeline({
      sql: database.sql,
      transport,
      jobs: [helloWorld],
      handlers: [handleHelloWorldGreeting, handleHelloWorldReply],
    });
  });
  afterAll(async () => {
    if (missing) return;
    await pipeline.stop();
    await transport.close();
    await broker.stop();
    await database.drop();
  });

  test.skipIf(missing)("each is dead-lettered with its reason, no row changes, and the loops go on", async () => {
    const { sql } = database;
    const bodyOf = (body: unknown) => typeof body === "string" ? body : JSON.stringify(body);
    for (const queue of ["jobs", "stages", "tasks"] as const) {
      const messages = bad[queue].map(([body], position) => ({ messageId: `bad-${position}`, body: bodyOf(body) }));
      await transport.send(pipeline.queues[queue], messages);
    }
    for (const queue of ["jobs", "stages", "tasks"] as const) {
      const dead = await receiveDeadLetters(transport, pipeline.queues[queue], bad[queue].length);
      for (const [position, [body, reason, names]] of bad[queue].entries()) {
        const message = dead.get(`bad-${position}`);
        expect(message?.deadLettered, bodyOf(body).slice(0, 100)).toMatchObject({
          reason,
          description: expect.stringMatching(names),
        });
        expect(message?.body).toBe(bodyOf(body));
      }
    }
    expect(await sql`select from jobs`).toHaveLength(0);
    const job = await pipeline.submit("hello_world", { n: 3, name: "after all that", message: null, failure_rate: 0 });
    expect(await whenEnded(sql, job)).toMatchObject({ status: "completed" });
    expect(await findViolations(sql)).toEqual([]);
  });

  test.skipIf(missing)("hints of a job that was deleted are dead-lettered", async () => {
    const { sql } = database;
    const deleted = await pipeline.submit("hello_world", { n: 2, name: "deleted", message: null, failure_rate: 0 });
    await whenEnded(sql, deleted);
    await sql`delete from jobs where id = ${deleted}`;
    const hint = { version: 1, jobId: deleted, run: 1, kind: "start-job" };
    await transport.send(pipeline.queues.jobs, [{ messageId: "of-a-deleted-job", body: JSON.stringify(hint) }]);
    const dead = await receiveDeadLetters(transport, pipeline.queues.jobs, 1);
    expect(dead.get("of-a-deleted-job")?.deadLettered?.reason).toBe("unknown-job");
  });
});

async function receiveDeadLetters(transport: Transport, queue: string, count: number): Promise<Map<string, LockedMessage>> {
  const dead = new Map<string, LockedMessage>();
  const signal = AbortSignal.timeout(60_000);
  while (dead.size < count && !signal.aborted) {
    for (const message of await transport.receive(queue, { max: 32, signal, from: "dead-letters" })) {
      dead.set(message.messageId, message);
      await message.complete();
    }
  }
  return dead;
}

import { randomBytes } from "node:crypto";
import { describe, expect } from "vitest";
import type { Sql } from "../../shared/store/database.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { endStoppedJobs, stopJob } from "../../shared/store/jobs.ts";
import { insertTasks, releaseStage, sealStage, takeStage } from "../../shared/store/stages.ts";
import { type AttemptEnd, cancelTasks, claimTasks, interruptTasks, recordAttempts } from "../../shared/store/tasks.ts";
import type { OutgoingMessage } from "../../shared/transport/transport.ts";
import { test as base } from "../support/database.ts";
import {
  type DeadLetters,
  jobId,
  openDeadLetters,
  queuedJob,
  sendHints,
  sendStage,
  sendTasks,
  startedStage,
} from "./dead-letters.ts";

const test = base.extend<{ letters: DeadLetters }>({
  letters: async ({ sql }, use) => {
    const letters = await openDeadLetters(sql);
    await use(letters);
    await letters.close();
  },
});

const retry = { maxFailures: 1, backoffMs: 0, maxBackoffMs: 0 };
let claims = 0;

async function end(sql: Sql, taskId: number, outcome: "completed" | "failed", message = "no"): Promise<void> {
  const claimId = `runner:${++claims}`;
  const [claimed] = await claimTasks(sql, "runner", [{ taskId, claimId }]);
  expect(claimed).toBeTypeOf("object");
  const how: AttemptEnd = outcome === "completed"
    ? { taskId, claimId, outcome, result: { by: claimId } }
    : { taskId, claimId, outcome, error: { code: "error", message }, permanent: false, retry };
  await recordAttempts(sql, "runner", [how]);
}
const statusOf = async (sql: Sql, taskId: number) => (await sql`select status from tasks where id = ${taskId}`)[0]?.status;
const first = <Item>(items: readonly Item[]): Item => {
  const [item] = items;
  if (item === undefined) throw new Error("there is none");
  return item;
};

describe("a hint of one task", () => {
  test("whose row failed is expected, with the row's error and attempt, and changes nothing", async ({ sql, letters }) => {
    const { taskIds, messages } = await sendStage(sql);
    await end(sql, first(taskIds), "failed", "file 17 is not there");
    const poison = await letters.takeIn("tasks", await letters.die("tasks", first(messages), "task-failed", "error: no"));
    expect(poison).toMatchObject({ verdict: "expected", reason: "task-failed", attempt: 1, job_id: jobId });
    expect(poison).toMatchObject({ origin: "row", sightings: 2, body_head: first(messages).body });
    expect(await sql`select count(*)::int as records from poison_messages`).toEqual([{ records: 1 }]);
    expect(await sql`select code, message, task_type, stage_name, messages from poison_groups`).toEqual([
      { code: "error", message: "file <n> is not there", task_type: "t", stage_name: "one", messages: 1 },
    ]);
    expect(await findViolations(sql)).toEqual([]);
  });

  test("whose row completed is a contradiction", async ({ sql, letters }) => {
    const { taskIds, messages } = await sendStage(sql);
    await end(sql, first(taskIds), "completed");
    const poison = await letters.takeIn("tasks", await letters.die("tasks", first(messages)));
    expect(poison.verdict).toBe("contradiction");
    expect(await statusOf(sql, first(taskIds))).toBe("completed");
  });

  test("whose attempt runs is alive, and the attempt goes on", async ({ sql, letters }) => {
    const { taskIds, messages } = await sendStage(sql);
    await claimTasks(sql, "runner", [{ taskId: first(taskIds), claimId: "runner:goes-on" }]);
    const poison = await letters.takeIn("tasks", await letters.die("tasks", first(messages)));
    expect(poison.verdict).toBe("alive");
    const done = { taskId: first(taskIds), claimId: "runner:goes-on", outcome: "completed", result: {} } as const;
    const { recorded } = await recordAttempts(sql, "runner", [done]);
    expect([...recorded.values()]).toEqual(["completed"]);
  });

  test("whose runner is gone is recovered: the sweep frees the task", async ({ sql, letters }) => {
    const { taskIds, messages } = await sendStage(sql);
    await claimTasks(sql, "runner", [{ taskId: first(taskIds), claimId: "runner:gone" }]);
    await sql`update runners set lease_until = now() - interval '1 s'`;
    expect((await letters.takeIn("tasks", await letters.die("tasks", first(messages)))).verdict).toBe("recovered");
    await interruptTasks(sql, "sweep", { graceMs: 0, limit: 10 });
    expect(await sendTasks(sql)).toHaveLength(1);
  });

  test("that waits is hinted again twice, and the third death fails it as UNHANDLED POISON, with its barrier", async ({ sql, letters }) => {
    const { taskIds, messages } = await sendStage(sql);
    let message = first(messages);
    for (const verdict of ["recovered", "recovered"]) {
      expect((await letters.takeIn("tasks", await letters.die("tasks", message))).verdict).toBe(verdict);
      expect(await statusOf(sql, first(taskIds))).toBe("pending");
      const again = await sendTasks(sql);
      expect(again).toHaveLength(1);
      expect(first(again).messageId).not.toBe(message.messageId);
      message = first(again);
    }
    const dead = await letters.die("tasks", message, "max-delivery-count", "delivery 11 of at most 10");
    expect((await letters.takeIn("tasks", dead)).verdict).toBe("unhandled");
    expect(await sql`select status, error from tasks`).toEqual([{
      status: "failed",
      error: { code: "unhandled-poison", message: "UNHANDLED POISON: max-delivery-count: delivery 11 of at most 10" },
    }]);
    expect(await sql`select status, failed from stages`).toEqual([{ status: "reducing", failed: 1 }]);
    expect(await findViolations(sql)).toEqual([]);
  });

  test("that died before is stale: the newer hint goes on, nothing is counted", async ({ sql, letters }) => {
    const { taskIds, messages } = await sendStage(sql);
    const twice = [await letters.die("tasks", first(messages)), await letters.die("tasks", first(messages))];
    const verdicts = [];
    for (const dead of twice) verdicts.push((await letters.takeIn("tasks", dead)).verdict);
    expect(verdicts).toEqual(["recovered", "stale"]);
    expect(await sql`select poisonings from tasks`).toEqual([{ poisonings: 1 }]);
    expect(await sendTasks(sql)).toHaveLength(1);
    expect(await statusOf(sql, first(taskIds))).toBe("pending");
  });

  test("under an id that isn't ours is hinted again, and never counts against the row", async ({ sql, letters }) => {
    const { taskIds, messages } = await sendStage(sql);
    const { body } = first(messages);
    for (let death = 0; death < 10; death++) {
      const dead = await letters.die("tasks", { messageId: `by-hand-${death}`, body });
      expect((await letters.takeIn("tasks", dead)).verdict).toBe("recovered");
      expect(await sendTasks(sql)).toHaveLength(1);
    }
    expect(await sql`select status, poisonings from tasks`).toEqual([{ status: "pending", poisonings: 0 }]);
    expect(await statusOf(sql, first(taskIds))).toBe("pending");
  });

  test("of another run of its stage is stale", async ({ sql, letters }) => {
    const { messages } = await sendStage(sql);
    await sql`update stages set run = 2`;
    await sql`update jobs set epoch = 2`;
    expect((await letters.takeIn("tasks", await letters.die("tasks", first(messages)))).verdict).toBe("stale");
    expect(await sendTasks(sql)).toEqual([]);
  });

  test("of a cancelled task is stale", async ({ sql, letters }) => {
    const { stage, messages } = await sendStage(sql);
    await stopJob(sql, { jobId, as: "cancelled", error: null });
    expect((await letters.takeIn("tasks", await letters.die("tasks", first(messages)))).verdict).toBe("stale");
    await cancelTasks(sql, "sweep", { stageId: stage.stageId, startIndex: 0, size: 10 });
    await endStoppedJobs(sql);
    const later = await letters.die("tasks", { ...first(messages), messageId: "by-hand" });
    expect((await letters.takeIn("tasks", later)).verdict).toBe("stale");
  });

  test("that names a task of another job, or none that is there, is an orphan", async ({ sql, letters }) => {
    const { messages } = await sendStage(sql);
    const body = JSON.parse(first(messages).body);
    for (const changes of [{ jobId: "e".repeat(64) }, { stageId: 999 }, { taskIds: [999] }]) {
      const message = { messageId: JSON.stringify(changes), body: JSON.stringify({ ...body, ...changes }) };
      expect((await letters.takeIn("tasks", await letters.die("tasks", message))).verdict).toBe("orphan");
    }
    expect(await sendTasks(sql)).toEqual([]);
  });
});

describe("a task that failed", () => {
  test("has its record with its row, if its message never comes; interrupted for the last time, it is unhandled", async ({ sql, letters }) => {
    const { taskIds } = await sendStage(sql, { tasks: 2 });
    await end(sql, first(taskIds), "failed", "no");
    await sql`update tasks set interruptions = 2 where id = ${taskIds[1] ?? 0}`;
    await claimTasks(sql, "runner", [{ taskId: taskIds[1] ?? 0, claimId: "runner:last", alone: true }]);
    await sql`update runners set lease_until = now() - interval '1 s'`;
    await interruptTasks(sql, "sweep", { graceMs: 0, limit: 10 });
    await letters.judgeTheRest();
    expect(
      await sql`select origin, reason, verdict, error ->> 'code' as code, array_to_json(task_ids) as tasks from poison_messages order by id`,
    )
      .toEqual([
        { origin: "row", reason: "task-failed", verdict: "expected", code: "error", tasks: [taskIds[0]] },
        { origin: "row", reason: "task-failed", verdict: "unhandled", code: "interrupted", tasks: [taskIds[1]] },
      ]);
  });

  test("whose next interruption would be its last is claimed only by a process that runs nothing else", async ({ sql, letters }) => {
    const { taskIds } = await sendStage(sql);
    const taskId = first(taskIds);
    await sql`update tasks set interruptions = 2`;
    expect(await claimTasks(sql, "runner", [{ taskId, claimId: "runner:in-company" }])).toEqual(["alone"]);
    expect(await statusOf(sql, taskId)).toBe("pending");
    const [claimed] = await claimTasks(sql, "runner", [{ taskId, claimId: "runner:alone", alone: true }]);
    expect(claimed).toMatchObject({ taskId, attempt: 1 });
    expect(letters).toBeDefined();
  });
});

describe("a hint of several tasks", () => {
  test("is split: each that waits is hinted alone, whatever the others did, and nothing is counted", async ({ sql, letters }) => {
    const { taskIds, messages } = await sendStage(sql, { tasks: 4, tasksPerMessage: 4 });
    await end(sql, taskIds[0] ?? 0, "completed");
    await end(sql, taskIds[1] ?? 0, "failed");
    expect((await letters.takeIn("tasks", await letters.die("tasks", first(messages)))).verdict).toBe("split");
    const hints = (await sendTasks(sql)).map(({ body }) => JSON.parse(body).taskIds);
    expect(hints).toEqual([[taskIds[2]], [taskIds[3]]]);
    expect(await sql`select distinct poisonings from tasks`).toEqual([{ poisonings: 0 }]);
  });
});

describe("a hint of a stage", () => {
  const hintOf = async (sql: Sql): Promise<{ message: OutgoingMessage; stageId: number }> => {
    const stage = await startedStage(sql);
    await releaseStage(sql, stage, null);
    return { message: first(await sendHints(sql)), stageId: stage.stageId };
  };

  test("that waits to be planned is hinted again twice; the third death stops the job", async ({ sql, letters }) => {
    let { message } = await hintOf(sql);
    for (const verdict of ["recovered", "recovered"]) {
      expect((await letters.takeIn("stages", await letters.die("stages", message))).verdict).toBe(verdict);
      message = first(await sendHints(sql));
    }
    expect((await letters.takeIn("stages", await letters.die("stages", message))).verdict).toBe("unhandled");
    expect(await sql`select status, stop_as, error ->> 'code' as code from jobs`).toEqual([
      { status: "stopping", stop_as: "failed", code: "unhandled-poison" },
    ]);
    await endStoppedJobs(sql);
    expect(await findViolations(sql)).toEqual([]);
  });

  test("that somebody plans is alive; one that was planned, or decided, needs nothing", async ({ sql, letters }) => {
    const { message, stageId } = await hintOf(sql);
    const stage = await takeStage(sql, "orchestrator/2", stageId, 1);
    if (!stage) throw new Error("the stage was not taken");
    expect((await letters.takeIn("stages", await letters.die("stages", message))).verdict).toBe("alive");
    await insertTasks(sql, stage, { startIndex: 0, parameters: [{}], tasksPerMessage: 1 });
    await sealStage(sql, stage, 1);
    expect((await letters.takeIn("stages", await letters.die("stages", message))).verdict).toBe("stale");
    expect(await sendHints(sql)).toEqual([]);
  });

  test("of which a newer one was sent is stale", async ({ sql, letters }) => {
    const { message, stageId } = await hintOf(sql);
    const again = await takeStage(sql, "orchestrator/2", stageId, 1);
    if (again) await releaseStage(sql, again, null);
    expect((await letters.takeIn("stages", await letters.die("stages", message))).verdict).toBe("stale");
  });
});

describe("a hint of a job", () => {
  test("that is queued is hinted again twice; the third death stops it", async ({ sql, letters }) => {
    let message = await queuedJob(sql);
    for (const verdict of ["recovered", "recovered"]) {
      expect((await letters.takeIn("jobs", await letters.die("jobs", message))).verdict).toBe(verdict);
      message = first(await sendHints(sql));
    }
    expect((await letters.takeIn("jobs", await letters.die("jobs", message))).verdict).toBe("unhandled");
    expect(await endStoppedJobs(sql)).toEqual([jobId]);
    expect(await findViolations(sql)).toEqual([]);
  });

  test("that has started is alive", async ({ sql, letters }) => {
    await startedStage(sql);
    const body = JSON.stringify({ version: 1, jobId, kind: "start-job", run: 1 });
    expect((await letters.takeIn("jobs", await letters.die("jobs", { messageId: "m", body }))).verdict).toBe("alive");
  });
});

describe("what can't be read", () => {
  test("fails nothing; the row's own hint is sent again, found by ids in the body or by the id of the message", async ({ sql, letters }) => {
    const { taskIds, messages } = await sendStage(sql, { tasks: 3 });
    const [one, two] = messages as [OutgoingMessage, OutgoingMessage];
    const cut = { messageId: "not-ours", body: one.body.slice(0, -1) };
    expect(await letters.takeIn("tasks", await letters.die("tasks", cut, "invalid-message"))).toMatchObject({
      verdict: "unreadable",
      job_id: jobId,
    });
    expect((await sendTasks(sql)).map(({ body }) => JSON.parse(body).taskIds)).toEqual([[taskIds[0]]]);
    const noise = { messageId: two.messageId, body: "\u0000\ud800 noise" };
    expect(await letters.takeIn("tasks", await letters.die("tasks", noise, "invalid-message"))).toMatchObject({
      verdict: "unreadable",
      job_id: jobId,
    });
    const hinted = (await sendTasks(sql)).flatMap(({ body }) => JSON.parse(body).taskIds);
    expect(hinted).toEqual([taskIds[1]]);
    expect(await sql`select distinct status, poisonings from tasks`).toEqual([{ status: "pending", poisonings: 0 }]);
  });

  test("is recorded with its first 1,000 characters, and whole by claim check", async ({ sql, letters }) => {
    const body = "x".repeat(200_000);
    const poison = await letters.takeIn("jobs", await letters.die("jobs", { messageId: "large", body }, "invalid-message"));
    expect(poison).toMatchObject({ verdict: "unreadable", body_head: "x".repeat(1_000), body_size: 200_000 });
    expect(poison.body_ref).toMatch(/^file:/);
    expect(await sql`select count(*)::int as jobs from jobs`).toEqual([{ jobs: 0 }]);
  });
});

test("a dead letter of any identity, however long, is recorded, and found again", async ({ sql, letters }) => {
  const dead = await letters.die("tasks", { messageId: "by-hand", body: "{" });
  const oddly = { ...dead, identity: randomBytes(8_000).toString("hex") };
  expect(await letters.takeIn("tasks", oddly)).toMatchObject({ verdict: "unreadable", sightings: 1 });
  expect(await letters.takeIn("tasks", oddly)).toMatchObject({ verdict: "unreadable", sightings: 2 });
  expect(await sql`select count(*)::int as records from poison_messages`).toEqual([{ records: 1 }]);
});

describe("a dead letter that comes again", () => {
  test("finds its record, its first verdict, and does nothing twice", async ({ sql, letters }) => {
    const { messages } = await sendStage(sql);
    const dead = await letters.die("tasks", first(messages));
    for (let sightings = 1; sightings <= 3; sightings++) {
      expect(await letters.takeIn("tasks", dead)).toMatchObject({ verdict: "recovered", sightings });
    }
    expect(await sendTasks(sql)).toHaveLength(1);
    expect(await sql`select messages from poison_groups`).toEqual([{ messages: 1 }]);
  });

  test("to ten handlers at once is acted on once", async ({ sql, letters }) => {
    const { messages } = await sendStage(sql);
    const dead = await letters.die("tasks", first(messages));
    const others = await Promise.all(Array.from({ length: 10 }, () => openDeadLetters(sql)));
    await Promise.all(others.map((other) => other.takeIn("tasks", dead)));
    expect(await sql`select poisonings from tasks`).toEqual([{ poisonings: 1 }]);
    expect(await sendTasks(sql)).toHaveLength(1);
    await Promise.all(others.map((other) => other.close()));
    expect(letters).toBeDefined();
  });
});

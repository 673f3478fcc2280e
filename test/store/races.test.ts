import { describe, expect } from "vitest";
import { openDatabase, type Sql } from "../../shared/store/database.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { endStoppedJobs, stopJob, submitJob } from "../../shared/store/jobs.ts";
import { claimHintBatches, claimTaskBatches, markSent } from "../../shared/store/outbox.ts";
import { renewRunner } from "../../shared/store/runners.ts";
import { type ClaimedStage, decideStage, insertTasks, releaseStage, sealStage, takeStage } from "../../shared/store/stages.ts";
import { hintTasksAgain, interruptStages, takeSweepLease } from "../../shared/store/sweep.ts";
import {
  type AttemptEnd,
  cancelTasks,
  claimTasks,
  interruptTasks,
  recordAttempts,
  sliceStage,
} from "../../shared/store/tasks.ts";
import { test } from "../support/database.ts";
import { claim, jobId, openStage, seed, startedStage } from "../support/open-stage.ts";

const retry = { maxFailures: 3, backoffMs: 0, maxBackoffMs: 0 };
const completion = (taskId: number, claimId: string): AttemptEnd => ({
  taskId,
  claimId,
  outcome: "completed",
  result: { by: claimId },
});
const failure = (taskId: number, claimId: string): AttemptEnd => ({
  taskId,
  claimId,
  outcome: "failed",
  error: { code: "error", message: "no" },
  permanent: false,
  retry,
});
const at = (ids: readonly number[], index: number): number => ids[index] ?? 0;

describe("claims", () => {
  test("of twenty claims of one task at once, one wins", async ({ sql }) => {
    const { taskIds } = await openStage(sql, 1);
    const answers = await Promise.all(
      Array.from(
        { length: 20 },
        (_, index) => claimTasks(sql, "runner", [{ taskId: at(taskIds, 0), claimId: `runner:race-${index}` }]),
      ),
    );
    expect(answers.flat().filter((answer) => typeof answer === "object")).toHaveLength(1);
    expect(answers.flat().filter((answer) => answer === "refused")).toHaveLength(19);
  });
  test("two hints of one task in the same group: one wins", async ({ sql }) => {
    const { taskIds } = await openStage(sql, 1);
    const answers = await claimTasks(sql, "runner", [
      { taskId: at(taskIds, 0), claimId: "runner:x" },
      { taskId: at(taskIds, 0), claimId: "runner:y" },
    ]);
    expect(answers.filter((answer) => typeof answer === "object")).toHaveLength(1);
  });
  test("asked again under its id, a claim finds itself and counts no second attempt", async ({ sql }) => {
    const { taskIds } = await openStage(sql, 1);
    const again = [{ taskId: at(taskIds, 0), claimId: "runner:again" }];
    const [first] = await claimTasks(sql, "runner", again);
    expect(await claimTasks(sql, "runner", again)).toEqual([first]);
    expect(first).toMatchObject({ attempt: 1, index: 0, parameters: { number: 0 } });
  });
  test("a task that is not due, or whose job is stopping, is refused; one that is not there is unknown", async ({ sql }) => {
    const { taskIds } = await openStage(sql, 2);
    await sql`update tasks set not_before = now() + interval '1 hour' where index = 0`;
    const wanted = [...taskIds, 999_999].map((taskId) => ({ taskId, claimId: `runner:any-${taskId}` }));
    expect((await claimTasks(sql, "runner", wanted)).map((answer) => typeof answer === "object" ? "claimed" : answer))
      .toEqual(["refused", "claimed", "unknown"]);
    await stopJob(sql, { jobId, as: "cancelled", error: null });
    await sql`update tasks set not_before = null where index = 0`;
    expect(await claimTasks(sql, "runner", [{ taskId: at(taskIds, 0), claimId: "runner:late" }])).toEqual(["refused"]);
  });
});

describe("the fence", () => {
  test("a result whose claim was taken over changes nothing", async ({ sql }) => {
    const { taskIds } = await openStage(sql, 2);
    const late = await claim(sql, at(taskIds, 0));
    await sql`update runners set lease_until = now() - interval '1 s'`;
    await interruptTasks(sql, "sweep", { graceMs: 0, limit: 10 });
    await renewRunner(sql, { id: "runner", processingPath: "bullmq", queue: "tasks" });
    const winner = await claim(sql, at(taskIds, 0));
    expect((await recordAttempts(sql, "runner", [completion(at(taskIds, 0), late)])).recorded.size).toBe(0);
    expect((await recordAttempts(sql, "runner", [completion(at(taskIds, 0), winner)])).recorded.get(winner)).toBe("completed");
    const [task] = await sql`select result, attempt, interruptions, failures from tasks where id = ${at(taskIds, 0)}`;
    expect(task).toEqual({ result: { by: winner }, attempt: 2, interruptions: 1, failures: 0 });
    expect(await findViolations(sql)).toEqual([]);
  });
  test("an attempt that timed out and came back pending can't be completed by the one that timed out", async ({ sql }) => {
    const { taskIds } = await openStage(sql, 1);
    const claimId = await claim(sql, at(taskIds, 0));
    await recordAttempts(sql, "runner", [failure(at(taskIds, 0), claimId)]);
    expect((await recordAttempts(sql, "runner", [completion(at(taskIds, 0), claimId)])).recorded.size).toBe(0);
    expect((await sql`select status from tasks`)[0]?.status).toBe("pending");
  });
});

describe("the barrier", () => {
  test("of the last results, recorded at once one by one, exactly one opens it", async ({ sql }) => {
    const { taskIds } = await openStage(sql, 30);
    const ends = await Promise.all(taskIds.map(async (taskId) => completion(taskId, await claim(sql, taskId))));
    const opened = await Promise.all(ends.map((end) => recordAttempts(sql, "runner", [end])));
    expect(opened.flatMap(({ batches }) => batches)).toHaveLength(1);
    expect((await sql`select status, completed from stages`)[0]).toEqual({ status: "reducing", completed: 30 });
    expect(await findViolations(sql)).toEqual([]);
  });
  test("groups in opposite orders don't deadlock, and count each task once", async ({ sql }) => {
    const { taskIds } = await openStage(sql, 60);
    const ends = await Promise.all(taskIds.map(async (taskId) => completion(taskId, await claim(sql, taskId))));
    const all = await Promise.all(
      [ends, ends.toReversed(), ends, ends.toReversed()].map((group) => recordAttempts(sql, "runner", group)),
    );
    expect(all.reduce((sum, { recorded }) => sum + recorded.size, 0)).toBe(60);
    expect(all.flatMap(({ batches }) => batches)).toHaveLength(1);
  });
  test("a seal that comes after the last task opens it; sealing nothing at all opens it too", async ({ sql }) => {
    const stage = await startedStage(sql);
    await insertTasks(sql, stage, { startIndex: 0, parameters: [{}], tasksPerMessage: 1 });
    await renewRunner(sql, { id: "runner", processingPath: "bullmq", queue: "tasks" });
    const [task] = await sql<{ id: number }[]>`select id from tasks`;
    const claimId = await claim(sql, task?.id ?? 0);
    expect((await recordAttempts(sql, "runner", [completion(task?.id ?? 0, claimId)])).batches).toEqual([]);
    expect(await sealStage(sql, stage, 1)).toMatchObject([{ kind: "stage", stageId: stage.stageId, run: 1 }]);
  });
});

describe("planning", () => {
  test("of two planners at the same cursor one inserts; a planner that was replaced inserts nothing", async ({ sql }) => {
    const stage = await startedStage(sql);
    const insert = (owner: ClaimedStage) => insertTasks(sql, owner, { startIndex: 0, parameters: [{}, {}], tasksPerMessage: 1 });
    expect((await Promise.all([insert(stage), insert(stage), insert({ ...stage, owner: "somebody else" })])).sort())
      .toEqual([false, false, true]);
    expect(await sealStage(sql, { ...stage, run: 2 }, 2)).toBeNull();
    expect(await sealStage(sql, stage, 1)).toBeNull();
    await stopJob(sql, { jobId, as: "cancelled", error: null });
    expect(await insertTasks(sql, stage, { startIndex: 2, parameters: [{}], tasksPerMessage: 1 })).toBe(false);
    expect(await findViolations(sql)).toEqual([]);
  });
  test("a stage is owned by one; freed by the sweep, its old owner can't renew the work", async ({ sql }) => {
    const stage = await startedStage(sql);
    expect(await takeStage(sql, "other", stage.stageId, 1)).toBeNull();
    await sql`update stages set lease_until = now() - interval '1 s'`;
    expect(await interruptStages(sql)).toEqual({ freed: 1, exhausted: [] });
    const taken = await Promise.all(["a", "b", "c"].map((owner) => takeStage(sql, owner, stage.stageId, 1)));
    expect(taken.filter((claimed) => claimed !== null)).toHaveLength(1);
    expect(await releaseStage(sql, stage, null)).toBeNull();
    expect(await insertTasks(sql, stage, { startIndex: 0, parameters: [{}], tasksPerMessage: 1 })).toBe(false);
  });
});

describe("deciding", () => {
  const result = {
    stage_number: 1,
    stage_key: "one",
    status: "completed",
    task_count: 0,
    successful_tasks: 0,
    failed_tasks: 0,
    success_rate: 100,
    completed_at: "",
    metadata: {},
    orchestration: { action: "advance" },
  } as const;
  test("of ten decisions at once one counts, and makes one next stage", async ({ sql }) => {
    await sealStage(sql, await startedStage(sql), 0);
    const stage = await takeReducing(sql);
    const decided = await Promise.all(
      Array.from(
        { length: 10 },
        () => decideStage(sql, stage, { result, then: { action: "advance", next: { ...seed, number: 2, name: "two" } } }),
      ),
    );
    expect(decided.filter((decision) => decision !== "lost")).toHaveLength(1);
    expect(await sql`select number from stages order by number`).toEqual([{ number: 1 }, { number: 2 }]);
    expect((await sql`select epoch, current_stage from jobs`)[0]).toEqual({ epoch: 2, current_stage: 2 });
  });
  async function takeReducing(sql: Sql): Promise<ClaimedStage> {
    const [row] = await sql<{ id: number }[]>`select id from stages`;
    const stage = await takeStage(sql, "reducer", row?.id ?? 0, 1);
    if (!stage) throw new Error("nothing to reduce");
    return stage;
  }
});

describe("the sweep", () => {
  test("interrupts what has no live lease or outlived its time-out, three times, then the task has failed", async ({ sql }) => {
    const { taskIds } = await openStage(sql, 1, { timeoutMs: 1 });
    for (const status of ["pending", "pending", "failed"] as const) {
      const claimId = await claim(sql, at(taskIds, 0));
      await sql`update tasks set claimed_at = now() - interval '1 minute'`;
      const both = await Promise.all([1, 2].map(() => interruptTasks(sql, "sweep", { graceMs: 100, limit: 10 })));
      expect(both.flatMap(({ recorded }) => [...recorded])).toEqual([[claimId, status]]);
    }
    const [task] = await sql`select status, interruptions, error ->> 'code' as code from tasks`;
    expect(task).toEqual({ status: "failed", interruptions: 3, code: "interrupted" });
    expect(await findViolations(sql)).toEqual([]);
  });
  test("interrupts the attempt it found, not the one that another sweep has made room for meanwhile", async ({ sql, database }) => {
    const { taskIds } = await openStage(sql, 1);
    await renewRunner(sql, { id: "dead", processingPath: "bullmq", queue: "tasks" });
    await claim(sql, at(taskIds, 0), "dead");
    await sql`update runners set lease_until = now() - interval '1 s' where id = 'dead'`;
    // The slow sweep's now() waits for a lock: it has found the dead runner's attempt by then, and not yet locked it.
    await sql`
      create function public.now() returns timestamptz language plpgsql as $$
      begin
        perform pg_advisory_xact_lock_shared(42);
        return pg_catalog.now();
      end $$`;
    const url = new URL(database.url);
    url.searchParams.set("search_path", "public, pg_catalog");
    const slowSql = openDatabase(url.href, { applicationName: "slow-sweep", max: 1 });
    const lock = await sql.reserve();
    await lock`select pg_advisory_lock(42)`;
    const slow = interruptTasks(slowSql, "slow", { graceMs: 0, limit: 10 });
    await expect.poll(() => sql`select from pg_locks where locktype = 'advisory' and not granted`, { timeout: 20_000 })
      .toHaveLength(1);
    expect((await interruptTasks(sql, "quick", { graceMs: 0, limit: 10 })).recorded.size).toBe(1);
    const alive = await claim(sql, at(taskIds, 0));
    await lock`select pg_advisory_unlock(42)`;
    expect((await slow).recorded.size).toBe(0);
    expect(await sql`select status, claim_id, interruptions from tasks`).toEqual([
      { status: "processing", claim_id: alive, interruptions: 1 },
    ]);
    lock.release();
    await slowSql.end({ timeout: 5 });
    expect(await findViolations(sql)).toEqual([]);
  });
  test("leaves a running attempt under a live lease alone", async ({ sql }) => {
    const { taskIds } = await openStage(sql, 1);
    await claim(sql, at(taskIds, 0));
    expect((await interruptTasks(sql, "sweep", { graceMs: 0, limit: 10 })).recorded.size).toBe(0);
  });
  test("hints again only what was sent long ago, and spaces it out", async ({ sql }) => {
    await openStage(sql, 2);
    expect(await hintTasksAgain(sql, "bullmq", "tasks", 10)).toBe(0);
    await sql`update outbox set sent_at = now() - interval '25 s' where status = 'queued'`;
    expect(await hintTasksAgain(sql, "bullmq", "tasks", 1)).toBe(1);
    expect(await hintTasksAgain(sql, "bullmq", "tasks", 10)).toBe(1);
    expect(await hintTasksAgain(sql, "bullmq", "tasks", 10)).toBe(0); // both have an unsent row now
    await sql`update outbox set status = 'queued', sent_at = now() - interval '25 s'`;
    expect(await hintTasksAgain(sql, "bullmq", "tasks", 10)).toBe(0); // the second time, after twice as long
  });
  test("its lease is one process's at a time", async ({ sql }) => {
    const taken = await Promise.all(["a", "b", "c"].map((owner) => takeSweepLease(sql, owner)));
    expect(taken.filter(Boolean)).toHaveLength(1);
    await sql`update leases set lease_until = now() - interval '1 s'`;
    expect(await takeSweepLease(sql, "d")).toBe(true);
  });
});

describe("the relay", () => {
  test("relays at once never lock the same batch; a crash before the mark sends it again under a new number", async ({ sql }) => {
    const stage = await startedStage(sql);
    await insertTasks(sql, stage, { startIndex: 0, parameters: Array(1000).fill({}), tasksPerMessage: 1 });
    const locked =
      (await Promise.all(["a", "b", "c"].map((relay) => claimTaskBatches(sql, relay, "bullmq", { window: 20_000, limit: 10 }))))
        .flat();
    expect(locked).toHaveLength(10);
    expect(new Set(locked.map(({ id }) => id)).size).toBe(10);
    expect(locked.map(({ batchId }) => batchId).sort()).toEqual(
      Array.from({ length: 10 }, (_, batch) => `${jobId}-s1-r1-b${batch * 100}`).sort(),
    );
    await sql`update outbox set locked_until = now() - interval '1 s' where kind = 'tasks'`;
    const again = await claimTaskBatches(sql, "d", "bullmq", { window: 20_000, limit: 10 });
    expect(new Set(again.map(({ sends }) => sends))).toEqual(new Set([2]));
    await markSent(sql, "a", locked.map(({ id }) => id)); // too late: they are d's now
    expect((await sql`select count(*)::int as sent from outbox where status = 'queued' and kind = 'tasks'`)[0]?.sent).toBe(0);
  });
  test("keeps the send window, and refills it as tasks end", async ({ sql }) => {
    const stage = await startedStage(sql);
    await insertTasks(sql, stage, { startIndex: 0, parameters: Array(1000).fill({}), tasksPerMessage: 1 });
    const claimAndMark = async () => {
      const batches = await claimTaskBatches(sql, "a", "bullmq", { window: 250, limit: 10 });
      await markSent(sql, "a", batches.map(({ id }) => id));
      return batches.length;
    };
    expect([await claimAndMark(), await claimAndMark()]).toEqual([3, 0]); // the batch across the edge still goes
    await renewRunner(sql, { id: "runner", processingPath: "bullmq", queue: "tasks" });
    const rows = await sql<{ id: number }[]>`select id from tasks order by index limit 150`;
    const ends = await Promise.all(rows.map(async ({ id }) => completion(id, await claim(sql, id))));
    await recordAttempts(sql, "runner", ends);
    expect(await claimAndMark()).toBe(1);
  });
  test("a hint that its sender holds is left alone until its lease ends", async ({ sql }) => {
    await submitJob(sql, "api", {
      jobId,
      jobType: "j",
      parameters: {},
      processingPath: "bullmq",
      totalStages: 1,
      correlationId: "c",
    });
    expect(await claimHintBatches(sql, "relay", "bullmq", 10)).toEqual([]);
    await sql`update outbox set locked_until = now() - interval '1 s'`;
    expect(await claimHintBatches(sql, "relay", "bullmq", 10)).toMatchObject([{ kind: "start-job", sends: 2 }]);
    expect(await claimHintBatches(sql, "relay", "bullmq", 10)).toMatchObject([{ sends: 3 }]); // its own, the answer having been lost
  });
});

test("cancelling while results come in: the job ends last, nothing of it is open, the counters are right", async ({ sql }) => {
  const { stage, taskIds } = await openStage(sql, 200);
  const ends = await Promise.all(taskIds.slice(0, 120).map(async (taskId) => completion(taskId, await claim(sql, taskId))));
  await Promise.all([
    ...Array.from({ length: 6 }, (_, group) => recordAttempts(sql, "runner", ends.slice(group * 20, group * 20 + 20))),
    (async () => {
      await stopJob(sql, { jobId, as: "cancelled", error: null });
      for (const slice of sliceStage({ ...stage, nextIndex: 200 }, 30)) await cancelTasks(sql, "sweep", slice);
    })(),
  ]);
  expect(await endStoppedJobs(sql, jobId)).toEqual([jobId]);
  expect(await endStoppedJobs(sql, jobId)).toEqual([]);
  expect((await sql`select status, stop_as from jobs`)[0]).toEqual({ status: "cancelled", stop_as: null });
  expect(await findViolations(sql)).toEqual([]);
});

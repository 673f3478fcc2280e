import { describe, expect } from "vitest";
import { findViolations } from "../../shared/store/invariants.ts";
import type { Sql } from "../../shared/store/database.ts";
import { endStoppedJobs, startJob, stopJob } from "../../shared/store/jobs.ts";
import { openNext } from "../../shared/store/open-items.ts";
import { takeStage } from "../../shared/store/stages.ts";
import { hintTasksAgain } from "../../shared/store/sweep.ts";
import { test as base } from "../support/database.ts";
import { sendHints, sendTasks } from "./dead-letters.ts";
import {
  completeJob,
  createOperator,
  decide,
  end,
  endStopped,
  failJob,
  greetingSeed,
  judgeFailures,
  openJob,
  type Operator,
} from "./failed-work.ts";

const test = base.extend<{ operator: Operator }>({
  operator: async ({ sql }, use) => {
    await use(createOperator(sql));
    expect(await findViolations(sql)).toEqual([]);
  },
});

const one = <Item>(items: readonly Item[], at = 0): Item => {
  const item = items[at];
  if (item === undefined) throw new Error("there is none");
  return item;
};
const statuses = async (sql: Sql) => (await sql`select status from tasks order by id`).map(({ status }) => status);

describe("a failed task of a stage that is open", () => {
  test("is pending again with budgets as new, hinted under a new id, counted as open, and its message is redriven", async ({ sql, operator }) => {
    const { taskIds } = await openJob(sql, 2);
    const before = (await sendTasks(sql)).map(({ messageId }) => messageId);
    await end(sql, [one(taskIds)], "failed");
    await sql`update tasks set interruptions = 2, deferrals = 3, resends = 4, poisonings = 1 where id = ${one(taskIds)}`;
    await judgeFailures(sql);
    const redriveId = await operator.start({ select: { all: true } });
    expect(await operator.work()).toBe(true);
    expect(await operator.outcomes(redriveId)).toEqual(["opened"]);
    expect(
      await sql`
        select status, failures, interruptions, deferrals, resends, poisonings, attempt, reopened from tasks where id = ${
        one(taskIds)
      }`,
    ).toEqual([
      { status: "pending", failures: 0, interruptions: 0, deferrals: 0, resends: 0, poisonings: 0, attempt: 1, reopened: 1 },
    ]);
    expect(await sql`select planned, completed, failed from stages`).toEqual([{ planned: 2, completed: 0, failed: 0 }]);
    expect(await sql`select status, status_by from poison_messages`).toEqual([{ status: "redriven", status_by: "ada" }]);
    const sent = await sendTasks(sql);
    expect(sent.map(({ body }) => JSON.parse(body).taskIds)).toEqual([[one(taskIds)]]);
    expect(before).not.toContain(one(sent).messageId);
  });

  test("that succeeds is counted so, and resolves its group; one that fails is counted as failed again", async ({ sql, operator }) => {
    const { taskIds } = await openJob(sql, 3);
    await sendTasks(sql);
    await end(sql, taskIds.slice(0, 2), "failed");
    await judgeFailures(sql);
    const first = await operator.start({ select: { all: true } });
    await operator.work();
    await end(sql, [one(taskIds)], "completed");
    await end(sql, [one(taskIds, 1)], "failed");
    await judgeFailures(sql);
    await operator.work();
    expect(await operator.outcomes(first)).toEqual(["succeeded", "failed-again"]);
    expect(await operator.get(first)).toMatchObject({ status: "completed", progress: { succeeded: 1, "failed-again": 1 } });
    expect(await sql`select resolved_at from poison_groups`).toEqual([{ resolved_at: null }]);
    await judgeFailures(sql);
    const second = await operator.start({ select: { all: true } });
    expect(await operator.outcomes(second)).toEqual(["refused redriven", "refused redriven", "waiting"]);
    await operator.work();
    await end(sql, [one(taskIds, 1)], "completed");
    await operator.work();
    expect(await sql`select resolved_at is not null as resolved from poison_groups`).toEqual([{ resolved: true }]);
  });

  test("is redriven although it never had a message, if the selection is by filter, by id or all", async ({ sql, operator }) => {
    const { taskIds, jobId } = await openJob(sql, 4);
    await sendTasks(sql);
    await end(sql, taskIds.slice(0, 3), "failed");
    await judgeFailures(sql);
    await sql`delete from poison_messages`; // such as those from before they were recorded
    const selections = [{ tasks: [one(taskIds)] }, { filter: { job_id: jobId, code: "error", stage: 1 } }, { all: true }];
    for (const [position, select] of selections.entries()) {
      const { items, preview } = await operator.preview({ select });
      expect(items).toBe(position === 0 ? 1 : 3);
      expect(preview.by_verdict).toEqual({ none: items });
    }
    expect((await operator.preview({ select: { filter: { verdict: "expected" } } })).items).toBe(0);
    const redriveId = await operator.start({ select: { tasks: [one(taskIds, 1)] } });
    await operator.work();
    expect(await operator.outcomes(redriveId)).toEqual(["opened"]);
    expect(await statuses(sql)).toEqual(["failed", "pending", "failed", "pending"]);
  });

  test("is hinted again by the sweep as before, although its re-sends were counted anew", async ({ sql, operator }) => {
    const { taskIds } = await openJob(sql, 2);
    await sendTasks(sql);
    const long = () => sql`update outbox set sent_at = now() - interval '1 hour' where status = 'queued'`;
    await long();
    expect(await hintTasksAgain(sql, "bullmq", "tasks", 10)).toBe(2); // …-a0-h1
    await sendTasks(sql);
    // A hint that dies thrice fails a task that was never claimed: it is redriven, and fails, without another attempt.
    await sql`update tasks set status = 'failed', ended_at = now() where id = ${one(taskIds)}`;
    await sql`update stages set failed = 1`;
    await operator.start({ select: { tasks: [one(taskIds)] } });
    await operator.work();
    await sendTasks(sql);
    await long();
    expect(await hintTasksAgain(sql, "bullmq", "tasks", 10)).toBe(2); // …-a0-h1 once more, of the redriven one
    const sent = (await sendTasks(sql)).flatMap(({ body }) => JSON.parse(body).taskIds);
    expect(sent.toSorted()).toEqual(taskIds.toSorted());
  });

  test("that moved on since it was frozen is skipped: running, or failed in a later attempt", async ({ sql, operator }) => {
    const { taskIds } = await openJob(sql, 3);
    await sendTasks(sql);
    await end(sql, taskIds.slice(0, 2), "failed");
    await judgeFailures(sql);
    const slow = await operator.preview({ select: { all: true } });
    const quick = await operator.start({ select: { all: true } });
    await operator.work();
    await end(sql, [one(taskIds)], "failed");
    await judgeFailures(sql);
    await operator.post(`/api/poison/redrives/${slow.redrive_id}/start`, { expected_items: 2 });
    await operator.work();
    expect(await operator.outcomes(slow.redrive_id)).toEqual(["skipped redriven", "skipped redriven"]);
    expect(await operator.outcomes(quick)).toEqual(["failed-again", "opened"]);
    await sql`delete from poison_messages`;
    const rows = await operator.preview({ select: { tasks: [one(taskIds)] } });
    await operator.start({ select: { tasks: [one(taskIds)] } });
    await operator.work();
    await end(sql, [one(taskIds)], "failed");
    await judgeFailures(sql);
    await operator.post(`/api/poison/redrives/${rows.redrive_id}/start`, { expected_items: 1 });
    await operator.work();
    expect(await operator.outcomes(rows.redrive_id)).toEqual(["skipped moved-on"]);
  });

  test("of a stage that is being reduced is put off, and refused when that takes too long", async ({ sql, operator }) => {
    const job = await openJob(sql, 1);
    await end(sql, job.taskIds, "failed");
    await judgeFailures(sql);
    const redriveId = await operator.start({ select: { all: true } });
    for (let tries = 0; tries < 10; tries++) {
      expect(await operator.outcomes(redriveId)).toEqual(["waiting"]);
      expect(await sql`select tries from redrive_items`).toEqual([{ tries }]);
      await operator.work();
      await sql`update redrive_items set try_at = '-infinity'`;
    }
    expect(await operator.outcomes(redriveId)).toEqual(["refused stage-reducing"]);
    expect(await sql`select status, failed from stages`).toEqual([{ status: "reducing", failed: 1 }]);
    expect(await sql`select status from poison_messages`).toEqual([{ status: "new" }]);
  });

  test("of a stage that a running job has passed is refused", async ({ sql, operator }) => {
    const job = await openJob(sql, 2);
    await end(sql, [one(job.taskIds)], "failed");
    await end(sql, [one(job.taskIds, 1)], "completed");
    await judgeFailures(sql);
    await decide(sql, job, { action: "advance", next: { ...greetingSeed, number: 2, name: "reply" } });
    const { redrive_id, preview } = await operator.preview({ select: { all: true } });
    expect(preview.fates).toEqual({ "refused-stage-passed": 1 });
    await operator.post(`/api/poison/redrives/${redrive_id}/start`, { expected_items: 1 });
    await operator.work();
    expect(await operator.outcomes(redrive_id)).toEqual(["refused stage-passed"]);
    expect(await statuses(sql)).toEqual(["failed", "completed"]);
  });
});

describe("an ended job", () => {
  test("is retried once with all that is selected of it: the start of its next run opens these tasks alone", async ({ sql, operator }) => {
    const job = await openJob(sql, 5);
    await sendTasks(sql);
    await end(sql, job.taskIds.slice(0, 4), "failed");
    await end(sql, job.taskIds.slice(4), "completed");
    await judgeFailures(sql);
    await decide(sql, job, failJob);
    const redriveId = await operator.start({ select: { tasks: job.taskIds.slice(0, 3) } });
    await operator.work();
    expect(await operator.outcomes(redriveId)).toEqual(["opened", "opened", "opened"]);
    expect(await sql`select status, run, error, ended_at from jobs`).toEqual([
      { status: "queued", run: 2, error: null, ended_at: null },
    ]);
    expect(await statuses(sql)).toEqual(["failed", "failed", "failed", "failed", "completed"]);
    expect(await findViolations(sql)).toEqual([]);
    expect(await sendHints(sql)).toMatchObject([{ body: expect.stringContaining(`"run":2`) }]);
    expect(await startJob(sql, "orchestrator/2", { jobId: job.jobId, run: 2, stage: greetingSeed })).toBeNull();
    expect(await statuses(sql)).toEqual(["pending", "pending", "pending", "failed", "completed"]);
    expect(await sql`select status, run, failed, completed, result from stages`).toEqual([
      { status: "open", run: 2, failed: 1, completed: 1, result: null },
    ]);
    const sent = (await sendTasks(sql)).flatMap(({ body }) => JSON.parse(body).taskIds);
    expect(sent).toEqual(job.taskIds.slice(0, 3));
    await end(sql, job.taskIds.slice(0, 3), "completed");
    expect(await sql`select status, barrier_opened from stages`).toEqual([{ status: "reducing", barrier_opened: 2 }]);
    await decide(sql, job, completeJob);
    await operator.work();
    expect(await operator.get(redriveId)).toMatchObject({ status: "completed", progress: { succeeded: 3 } });
  });

  test("starts from the earliest stage that is selected; later ones are discarded, and what is selected of them refused", async ({ sql, operator }) => {
    const job = await openJob(sql, 2);
    await end(sql, [one(job.taskIds)], "failed");
    await judgeFailures(sql);
    await end(sql, [one(job.taskIds, 1)], "completed");
    await decide(sql, job, { action: "advance", next: { ...greetingSeed, number: 2, name: "reply" } });
    const [second] = await sql<{ id: number }[]>`select id from stages where number = 2`;
    const stageId = second?.id ?? 0;
    await sql`
      insert into tasks (stage_id, index, parameters, outbox_id, status, ended_at)
      values (${stageId}, 0, '{}', 0, 'failed', now())`;
    await sql`
      update stages set planned = 1, next_index = 1, failed = 1, sealed = true, status = 'open', owner = null, lease_until = null
      where id = ${stageId}`;
    await sql`update stages set status = 'reducing', barrier_opened = run where id = ${stageId}`;
    await decide(sql, { ...job, stageId }, failJob);
    const { redrive_id, preview } = await operator.preview({ select: { all: true } });
    expect(preview).toMatchObject({
      by_job_status: { failed: 2 },
      by_stage: { "1 greeting": 1, "2 reply": 1 },
      fates: { "opened-with-its-job": 1, "refused-later-stage": 1 },
      jobs_retried: 1,
      stages_discarded: 1,
    });
    await operator.post(`/api/poison/redrives/${redrive_id}/start`, { expected_items: 2 });
    await operator.work();
    expect(await operator.outcomes(redrive_id)).toEqual(["opened", "refused later-stage"]);
    await startJob(sql, "orchestrator/2", { jobId: job.jobId, run: 2, stage: greetingSeed });
    expect(await sql`select number, status, run, discarded_at is not null as discarded from stages order by id`).toEqual([
      { number: 1, status: "open", run: 3, discarded: false },
      { number: 2, status: "failed", run: 2, discarded: true },
    ]);
    expect(await sql`select current_stage from jobs`).toEqual([{ current_stage: 1 }]);
  });

  test("that was cancelled while it was planned opens its cancelled tasks too, and is planned further", async ({ sql, operator }) => {
    const job = await openJob(sql, 4, { sealed: false });
    await end(sql, [one(job.taskIds)], "failed");
    await judgeFailures(sql);
    await end(sql, [one(job.taskIds, 1)], "completed");
    await stopJob(sql, { jobId: job.jobId, as: "cancelled", error: null });
    await endStopped(sql, job.jobId);
    const redriveId = await operator.start({ select: { all: true } });
    await operator.work();
    const stage = await startJob(sql, "orchestrator/2", { jobId: job.jobId, run: 2, stage: greetingSeed });
    expect(stage).toMatchObject({ status: "planning", nextIndex: 4, run: 2, owner: "orchestrator/2" });
    expect(await statuses(sql)).toEqual(["pending", "completed", "pending", "pending"]);
    expect(await operator.outcomes(redriveId)).toEqual(["opened"]);
    expect(await sql`select planned, completed, failed, cancelled from stages`).toEqual([
      { planned: 4, completed: 1, failed: 0, cancelled: 0 },
    ]);
  });

  test("of which nothing is left to be opened at its start has its barrier opened at once", async ({ sql, operator }) => {
    const job = await openJob(sql, 1);
    await end(sql, job.taskIds, "failed");
    await judgeFailures(sql);
    await decide(sql, job, failJob);
    const redriveId = await operator.start({ select: { all: true } });
    await operator.work();
    await sql`update tasks set retry_run = null`; // as if another had taken its mark away
    await startJob(sql, "orchestrator/2", { jobId: job.jobId, run: 2, stage: greetingSeed });
    expect(await sql`select status, barrier_opened from stages`).toEqual([{ status: "reducing", barrier_opened: 2 }]);
    await decide(sql, job, completeJob);
    await operator.work();
    expect(await operator.outcomes(redriveId)).toEqual(["skipped job-ended"]);
  });

  test("that ends before its next run has started tells so, and can be redriven again", async ({ sql, operator }) => {
    const job = await openJob(sql, 1);
    await end(sql, job.taskIds, "failed");
    await judgeFailures(sql);
    await decide(sql, job, failJob);
    const redriveId = await operator.start({ select: { all: true } });
    await operator.work();
    await stopJob(sql, { jobId: job.jobId, as: "failed", error: { code: "unknown-type", message: "nobody knows it" } });
    await endStoppedJobs(sql);
    await operator.work();
    expect(await operator.outcomes(redriveId)).toEqual(["skipped job-ended"]);
    await operator.start({ select: { all: true } });
    await operator.work();
    await startJob(sql, "orchestrator/2", { jobId: job.jobId, run: 3, stage: greetingSeed });
    expect(await statuses(sql)).toEqual(["pending"]);
  });

  test("is waited for while it is queued or stopping", async ({ sql, operator }) => {
    const job = await openJob(sql, 2);
    await end(sql, job.taskIds, "failed");
    await judgeFailures(sql);
    await decide(sql, job, failJob);
    await operator.start({ select: { tasks: [one(job.taskIds)] } });
    await operator.work();
    const later = await operator.start({ select: { tasks: [one(job.taskIds, 1)] } });
    await operator.work();
    expect(await operator.outcomes(later)).toEqual(["waiting"]);
    await startJob(sql, "orchestrator/2", { jobId: job.jobId, run: 2, stage: greetingSeed });
    await sql`update redrive_items set try_at = '-infinity'`;
    await operator.work();
    expect(await operator.outcomes(later)).toEqual(["opened"]);
    expect(await statuses(sql)).toEqual(["pending", "pending"]);
  });

  test("whose stage or start could not be handled is retried from there", async ({ sql, operator }) => {
    const job = await openJob(sql, 2, { sealed: false });
    await sql`
      insert into poison_groups (fingerprint, code, message) values ('0123456789abcdef', 'c', 'm')`;
    await sql`
      insert into poison_messages (origin, transport, queue, identity, reason, kind, job_id, stage_id, run, verdict, judged_at, fingerprint)
      values ('message', 'bullmq', 'stages', '1', 'max-delivery-count', 'stage', ${job.jobId}, ${job.stageId}, 1, 'unhandled', now(),
        '0123456789abcdef')`;
    await stopJob(sql, { jobId: job.jobId, as: "failed", error: { code: "unhandled-poison", message: "no" } });
    await endStopped(sql, job.jobId);
    const redriveId = await operator.start({ select: { group: "0123456789abcdef" } });
    await operator.work();
    expect(await operator.outcomes(redriveId)).toEqual(["opened"]);
    const stage = await startJob(sql, "orchestrator/2", { jobId: job.jobId, run: 2, stage: greetingSeed });
    expect(stage).toMatchObject({ status: "planning", nextIndex: 2 });
    await stopJob(sql, { jobId: job.jobId, as: "failed", error: null });
    await endStopped(sql, job.jobId);
    await operator.work();
    expect(await operator.outcomes(redriveId)).toEqual(["failed-again"]);
  });
});

describe("what can't be redriven is refused in the preview, with the reason", () => {
  test("for messages of every kind", async ({ sql, operator }) => {
    const { taskIds, jobId, stageId } = await openJob(sql, 5);
    await end(sql, taskIds.slice(0, 2), "failed");
    await end(sql, taskIds.slice(2, 3), "completed");
    await judgeFailures(sql);
    await sql`update poison_messages set status = 'discarded' where task_ids[1] = ${one(taskIds, 1)}`;
    await sql`
      insert into poison_messages (origin, transport, queue, identity, reason, kind, job_id, stage_id, task_ids, run, verdict, judged_at,
        fingerprint, attempt)
      select 'message', 'bullmq', 'tasks', what, 'r', kind, ${jobId}, ${stageId}, array(select json_array_elements_text(ids::json)::bigint),
        1, verdict, case when verdict is not null then now() end,
        case when verdict is not null then (select fingerprint from poison_groups) end, attempt
      from (values
        ('1 unreadable', null, '[]', 'unreadable', null),
        ('2 several', 'tasks', ${`[${taskIds.slice(3)}]`}, 'split', null),
        ('3 orphan', 'tasks', '[999999]', 'orphan', null),
        ('4 completed', 'tasks', ${`[${taskIds[2]}]`}, 'contradiction', 1),
        ('5 open', 'tasks', ${`[${taskIds[3]}]`}, 'recovered', 0),
        ('6 moved', 'tasks', ${`[${taskIds[0]}]`}, 'stale', 0),
        ('7 twice', 'tasks', ${`[${taskIds[0]}]`}, 'expected', 1),
        ('8 not judged', 'tasks', ${`[${taskIds[0]}]`}, null, null),
        ('9 stage', 'stage', '[]', 'recovered', null)
      ) as poison(what, kind, ids, verdict, attempt)`;
    const { redrive_id, preview } = await operator.preview({ select: { all: true } });
    const items = await sql`
      select coalesce(identity, '') as what, redrive_items.reason from redrive_items join poison_messages on poison_messages.id = poison_id
      where redrive_id = ${redrive_id} order by poison_id`;
    expect(items.map(({ what, reason }) => `${what}: ${reason}`)).toEqual([
      `task-${taskIds[0]}-a1: duplicate`,
      `task-${taskIds[1]}-a1: discarded`,
      "1 unreadable: unreadable",
      "2 several: several-tasks",
      "3 orphan: orphan",
      "4 completed: completed",
      "5 open: open",
      "6 moved: moved-on",
      "7 twice: null",
      "8 not judged: not-judged",
      "9 stage: open",
    ]);
    expect(preview).toMatchObject({ refused: { duplicate: 1, completed: 1 }, fates: { opened: 1, refused: 10 } });
  });
});

describe("an edit", () => {
  test("is checked by the schema of the task type; the original parameters are kept with the item", async ({ sql, operator }) => {
    const { taskIds } = await openJob(sql, 2);
    await end(sql, [one(taskIds)], "failed");
    await judgeFailures(sql);
    const wrong = await operator.preview({ select: { all: true }, edit: { set: { name: 17 } } });
    expect(wrong.preview.refused).toEqual({ "invalid-parameters": 1 });
    const { body } = await operator.post("/api/poison/redrives", { select: { all: true }, edit: { remove: ["task_number"] } });
    expect(body.preview.refused).toEqual({ "invalid-parameters": 1 });
    const redriveId = await operator.start({ select: { all: true }, edit: { set: { name: "Ada" }, remove: ["failure_rate"] } });
    await operator.work();
    expect(await sql`select parameters from tasks where id = ${one(taskIds)}`).toEqual([
      { parameters: { task_number: 1, name: "Ada", message: null, failure_rate: 0 } },
    ]);
    expect(await sql`select original from redrive_items where redrive_id = ${redriveId}`).toEqual([
      { original: { task_number: 1, name: "one", message: null, failure_rate: 0 } },
    ]);
  });

  test("of a task whose job has ended is kept the same way", async ({ sql, operator }) => {
    const job = await openJob(sql, 1);
    await end(sql, job.taskIds, "failed");
    await judgeFailures(sql);
    await decide(sql, job, failJob);
    await operator.start({ select: { all: true }, edit: { set: { name: "Ada" } } });
    await operator.work();
    await startJob(sql, "orchestrator/2", { jobId: job.jobId, run: 2, stage: greetingSeed });
    expect(
      await sql`select tasks.parameters ->> 'name' as name, original ->> 'name' as original from tasks join redrive_items on task_id = tasks.id`,
    )
      .toEqual([{ name: "Ada", original: "one" }]);
  });
});

describe("a redrive", () => {
  test("is started once, by what the operator saw; a repeated click does nothing, another count is refused", async ({ sql, operator }) => {
    const { taskIds } = await openJob(sql, 2);
    await end(sql, [one(taskIds)], "failed");
    await judgeFailures(sql);
    const { redrive_id, items, status } = await operator.preview({ select: { all: true }, note: "fixed" });
    expect(status).toBe("preview");
    expect(await operator.work()).toBe(false);
    const start = (expected_items: number) => operator.post(`/api/poison/redrives/${redrive_id}/start`, { expected_items });
    expect(await start(2)).toMatchObject({ status: 409, body: { type: "urn:sluice:problem:redrive-conflict" } });
    const answers = await Promise.all(Array.from({ length: 5 }, () => start(items)));
    expect(answers.map((answer) => answer.status).toSorted()).toEqual([200, 200, 200, 200, 202]);
    await operator.work();
    await end(sql, [one(taskIds)], "completed");
    await operator.work();
    expect(await start(items)).toMatchObject({ status: 200, body: { status: "completed" } });
    expect(await sql`select reopened from tasks order by id`).toEqual([{ reopened: 1 }, { reopened: 0 }]);
    const events = await sql`select kind, details ->> 'by' as by from events where details ? 'redrive' order by id`;
    expect(events.map(({ kind, by }) => `${kind} ${by}`)).toEqual([
      "redrive-created ada",
      "redrive-started ada",
      "task-redriven ada",
      "redrive-ended null",
    ]);
  });

  test("opens no more than its canary until all of that has ended, then the rest", async ({ sql, operator }) => {
    const { taskIds } = await openJob(sql, 21);
    await sendTasks(sql);
    await end(sql, taskIds.slice(0, 20), "failed");
    await judgeFailures(sql);
    const redriveId = await operator.start({ select: { all: true }, canary: 3 });
    for (let round = 0; round < 3; round++) await operator.work();
    expect((await operator.get(redriveId)).progress).toMatchObject({ opened: 3, waiting: 17 });
    await end(sql, taskIds.slice(0, 2), "completed");
    for (let round = 0; round < 3; round++) await operator.work();
    expect((await operator.get(redriveId)).progress).toMatchObject({ opened: 1, succeeded: 2, waiting: 17 });
    await end(sql, taskIds.slice(2, 3), "completed");
    await operator.work();
    expect((await operator.get(redriveId)).progress).toMatchObject({ opened: 17, succeeded: 3, waiting: 0 });
  });

  test("whose canary fails stops by itself and opens nothing more", async ({ sql, operator }) => {
    const { taskIds } = await openJob(sql, 21);
    await sendTasks(sql);
    await end(sql, taskIds.slice(0, 20), "failed");
    await judgeFailures(sql);
    const redriveId = await operator.start({ select: { all: true }, canary: 3, max_failure_share: 0.5 });
    await operator.work();
    await end(sql, taskIds.slice(0, 2), "failed");
    await judgeFailures(sql);
    await operator.work();
    expect((await operator.get(redriveId)).status).toBe("running");
    await end(sql, taskIds.slice(2, 3), "completed");
    await operator.work();
    await operator.work();
    expect(await operator.get(redriveId)).toMatchObject({
      status: "stopped",
      stopped_by: null,
      stop_reason: "2 of 3 failed again, more than a share of 0.5",
      progress: { waiting: 17, "failed-again": 2, succeeded: 1 },
      ended_at: expect.any(String),
    });
  });

  test("stops by itself after ten outcomes of which too many failed", async ({ sql, operator }) => {
    const { taskIds } = await openJob(sql, 31);
    await sendTasks(sql);
    await end(sql, taskIds.slice(0, 30), "failed");
    await judgeFailures(sql);
    const redriveId = await operator.start({ select: { all: true }, rate_per_second: 0.01 });
    for (let opened = 0; opened < 10; opened++) {
      await sql`update redrives set next_at = null`;
      await operator.work();
      await end(sql, taskIds.slice(opened, opened + 1), opened < 4 ? "completed" : "failed");
      await judgeFailures(sql);
    }
    await operator.work();
    expect(await operator.get(redriveId)).toMatchObject({
      status: "stopped",
      progress: { succeeded: 4, "failed-again": 6, waiting: 20 },
    });
  });

  test("that is stopped by an operator opens nothing more, and still tells what became of the rest", async ({ sql, operator }) => {
    const { taskIds } = await openJob(sql, 4);
    await sendTasks(sql);
    await end(sql, taskIds.slice(0, 3), "failed");
    await judgeFailures(sql);
    const redriveId = await operator.start({ select: { all: true }, canary: 1 });
    await operator.work();
    const { body } = await operator.post(`/api/poison/redrives/${redriveId}/stop`, { reason: "lunch" });
    expect(body).toMatchObject({ status: "stopped", stopped_by: "ada", stop_reason: "lunch", ended_at: null });
    await end(sql, [one(taskIds)], "completed");
    await operator.work();
    await operator.work();
    expect(await operator.outcomes(redriveId)).toEqual(["succeeded", "waiting", "waiting"]);
    expect((await operator.get(redriveId)).ended_at).not.toBeNull();
  });

  test("keeps its rate by the database's time, whoever works on it", async ({ sql, operator }) => {
    const { taskIds } = await openJob(sql, 61);
    await end(sql, taskIds.slice(0, 60), "failed");
    await judgeFailures(sql);
    const redriveId = await operator.start({ select: { all: true }, rate_per_second: 25 });
    const begun = performance.now();
    while ((await operator.get(redriveId)).progress.waiting > 0) await Promise.all([operator.work("a"), operator.work("b")]);
    const seconds = (performance.now() - begun) / 1_000;
    // A second's worth may come at once; it then takes at least as long as the rest of them need.
    expect(seconds).toBeGreaterThan((60 - 25 - 1) / 25);
    expect(seconds).toBeLessThan(10);
  });

  test("of an ended job makes its tasks due as fast as the rate allows", async ({ sql, operator }) => {
    const job = await openJob(sql, 25);
    await end(sql, job.taskIds, "failed");
    await judgeFailures(sql);
    await decide(sql, job, failJob);
    await operator.start({ select: { all: true }, rate_per_second: 10 });
    await operator.work();
    await startJob(sql, "orchestrator/2", { jobId: job.jobId, run: 2, stage: greetingSeed });
    const waves = await sql`
      select round(extract(epoch from outbox.not_before - min(outbox.not_before) over ()))::int as second, cardinality(task_ids) as tasks,
        (select count(distinct tasks.not_before) from tasks where tasks.outbox_id = outbox.id)::int as times
      from outbox where kind = 'tasks' and run = 2 order by outbox.not_before`;
    expect(waves).toEqual([
      { second: 0, tasks: 10, times: 1 },
      { second: 1, tasks: 10, times: 1 },
      { second: 2, tasks: 5, times: 1 },
    ]);
  });

  test("whose canary is of an ended job retries it with these, and with the rest when it has ended again", async ({ sql, operator }) => {
    const job = await openJob(sql, 4);
    await end(sql, job.taskIds, "failed");
    await judgeFailures(sql);
    await decide(sql, job, failJob);
    const redriveId = await operator.start({ select: { all: true }, canary: 1 });
    await operator.work();
    await startJob(sql, "orchestrator/2", { jobId: job.jobId, run: 2, stage: greetingSeed });
    await sendTasks(sql);
    await end(sql, [one(job.taskIds)], "completed");
    await sql`update redrive_items set try_at = '-infinity'`;
    await operator.work();
    expect(await operator.outcomes(redriveId)).toEqual(["succeeded", "waiting", "waiting", "waiting"]);
    await decide(sql, job, { action: "advance", next: { ...greetingSeed, number: 2, name: "reply" } });
    await sql`update redrive_items set try_at = '-infinity'`;
    await operator.work();
    expect(await operator.outcomes(redriveId)).toEqual(["succeeded", "waiting", "waiting", "waiting"]);
    await stopJob(sql, { jobId: job.jobId, as: "failed", error: null });
    await endStoppedJobs(sql);
    await sql`update redrive_items set try_at = '-infinity'`;
    await operator.work();
    expect(await operator.outcomes(redriveId)).toEqual(["succeeded", "opened", "opened", "opened"]);
    await startJob(sql, "orchestrator/3", { jobId: job.jobId, run: 3, stage: greetingSeed });
    expect(await statuses(sql)).toEqual(["completed", "pending", "pending", "pending"]);
  });
});

describe("at the same time", () => {
  test("ten handlers open each item once", async ({ sql, operator }) => {
    const { taskIds } = await openJob(sql, 61);
    await end(sql, taskIds.slice(0, 60), "failed");
    await judgeFailures(sql);
    const redriveId = await operator.start({ select: { all: true } });
    // Past the leases too: what they do must be harmless, however many do it.
    const openAll = async () => {
      while ((await openNext(sql, redriveId, 1_000)).outcome !== "idle");
    };
    await Promise.all([...Array.from({ length: 5 }, openAll), ...["a", "b", "c", "d", "e"].map((id) => operator.work(id))]);
    expect(await operator.outcomes(redriveId)).toEqual(Array.from({ length: 60 }, () => "opened"));
    expect(await sql`select sum(reopened)::int as reopened from tasks`).toEqual([{ reopened: 60 }]);
    expect(await sql`select count(*)::int as hints from outbox where batch_id like '%-d%'`).toEqual([{ hints: 60 }]);
  });

  test("two redrives of the same tasks open each once", async ({ sql, operator }) => {
    const { taskIds } = await openJob(sql, 41);
    await end(sql, taskIds.slice(0, 40), "failed");
    await judgeFailures(sql);
    const redriveIds = [await operator.preview({ select: { all: true } }), await operator.preview({ select: { all: true } })]
      .map(({ redrive_id }) => redrive_id);
    for (const id of redriveIds) await operator.post(`/api/poison/redrives/${id}/start`, { expected_items: 40 });
    await Promise.all(redriveIds.map(async (redriveId) => {
      while ((await openNext(sql, redriveId, 1_000)).outcome !== "idle");
    }));
    const outcomes = (await Promise.all(redriveIds.map((id) => operator.outcomes(id)))).flat();
    expect(outcomes.filter((outcome) => outcome === "opened")).toHaveLength(40);
    expect(outcomes.filter((outcome) => outcome === "skipped redriven")).toHaveLength(40);
    expect(await sql`select sum(reopened)::int as reopened from tasks`).toEqual([{ reopened: 40 }]);
  });

  test("the last open task ends while a failed one is redriven: the barrier opens with it or after it", async ({ sql, operator }) => {
    for (let round = 0; round < 20; round++) {
      const job = await openJob(sql, 2, { name: `round ${round}` });
      await end(sql, [one(job.taskIds)], "failed");
      await judgeFailures(sql);
      await operator.start({ select: { tasks: [one(job.taskIds)] } });
      await Promise.all([operator.work(), end(sql, [one(job.taskIds, 1)], "completed")]);
      const [row] = await sql`
        select stages.status as stage, tasks.status as task from stages join tasks on stage_id = stages.id
        where tasks.id = ${one(job.taskIds)}`;
      expect([["open", "pending"], ["reducing", "failed"]]).toContainEqual([row?.stage, row?.task]);
    }
    expect(await findViolations(sql)).toEqual([]);
  });

  test("the reducer decides while a failed task is redriven: the one or the other, never both", async ({ sql, operator }) => {
    for (let round = 0; round < 10; round++) {
      const job = await openJob(sql, 1, { name: `round ${round}` });
      await end(sql, job.taskIds, "failed");
      await judgeFailures(sql);
      const redriveId = await operator.start({ select: { tasks: job.taskIds } });
      await Promise.all([openNext(sql, redriveId, 10), decide(sql, job, failJob)]);
      const [row] = await sql`select status, run from jobs where id = ${job.jobId}`;
      expect(["failed 1", "queued 2"]).toContain(`${row?.status} ${row?.run}`);
    }
    expect(await findViolations(sql)).toEqual([]);
  });

  test("several jobs are retried once each, however many ask", async ({ sql, operator }) => {
    for (let job = 0; job < 5; job++) {
      const open = await openJob(sql, 3, { name: `job ${job}` });
      await end(sql, open.taskIds, "failed");
      await decide(sql, open, failJob);
    }
    await judgeFailures(sql);
    const redriveId = await operator.start({ select: { all: true } });
    await Promise.all(Array.from({ length: 4 }, async () => {
      while ((await openNext(sql, redriveId, 1_000)).outcome !== "idle");
    }));
    expect(await sql`select distinct status, run from jobs`).toEqual([{ status: "queued", run: 2 }]);
    expect(new Set(await operator.outcomes(redriveId))).toEqual(new Set(["opened"]));
    expect(await takeStage(sql, "x", 1, 1)).toBeNull();
  });
});

describe("messages", () => {
  test("that are discarded are left alone by redrives until they are restored, and resolve their group", async ({ sql, operator }) => {
    const { taskIds } = await openJob(sql, 3);
    await end(sql, taskIds.slice(0, 2), "failed");
    const poisonIds = await judgeFailures(sql);
    const preview = await operator.preview({ select: { all: true } });
    const discard = (body: unknown) => operator.post("/api/poison/messages/discard", body);
    expect((await discard({ select: { messages: [one(poisonIds)] } })).body).toEqual({ messages: 1 });
    expect(await sql`select resolved_at from poison_groups`).toEqual([{ resolved_at: null }]);
    expect((await discard({ select: { filter: { verdict: "expected" } }, note: "known" })).body).toEqual({ messages: 1 });
    expect(await sql`select resolved_at is not null as resolved from poison_groups`).toEqual([{ resolved: true }]);
    await operator.post(`/api/poison/redrives/${preview.redrive_id}/start`, { expected_items: 2 });
    await operator.work();
    expect(await operator.outcomes(preview.redrive_id)).toEqual(["skipped discarded", "skipped discarded"]);
    expect((await operator.post("/api/poison/messages/restore", { select: { all: true } })).body).toEqual({ messages: 2 });
    expect(await sql`select resolved_at from poison_groups`).toEqual([{ resolved_at: null }]);
    expect((await operator.preview({ select: { all: true } })).preview.fates).toEqual({ opened: 2 });
    const events = await sql`select kind, details ->> 'by' as by, (details ->> 'messages')::int as messages from events
      where kind like 'poison-%' order by id`;
    expect(events.map(({ kind, by, messages }) => `${kind} ${by} ${messages}`)).toEqual([
      "poison-discarded ada 1",
      "poison-discarded ada 1",
      "poison-restored ada 2",
    ]);
  });
});

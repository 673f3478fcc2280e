import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { afterAll, beforeAll, expect, test } from "vitest";
import { defineHandler } from "../../services/task-runner/task-handler.ts";
import { PermanentError } from "../../shared/errors.ts";
import { defineJob, type StageDefinition } from "../../shared/jobs/define-job.ts";
import { defineTask } from "../../shared/jobs/define-task.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type Pipeline, startPipeline, whenEnded } from "../support/pipeline.ts";

/** A task that does as its parameters say. */
const act = defineTask({
  type: "act",
  params: v.object({
    number: v.number(),
    behaviour: v.optional(
      v.picklist(["complete", "fail", "fail-for-good", "fail-at-first", "break-contract", "hang", "say-nul", "dawdle"]),
      "complete",
    ),
  }),
  result: v.object({ number: v.number(), text: v.optional(v.string()) }),
  retry: { maxFailures: 2, backoffMs: 10, maxBackoffMs: 20 },
  timeoutMs: 300,
});
/** Has time enough to be past any deadline here. */
const dawdling = defineTask({ ...act, type: "dawdle", timeoutMs: 60_000 });
const unknown = defineTask({ type: "nobody_runs_this", params: v.object({}), result: v.object({}) });
const handleAct = defineHandler(act, async ({ number, behaviour }, { attempt }) => {
  if (behaviour === "fail") throw new Error(`task ${number} fails each time`);
  if (behaviour === "fail-for-good") throw new PermanentError("task-failed", `task ${number} can't succeed`);
  if (behaviour === "fail-at-first" && attempt <= 2) throw new Error(`task ${number} fails its first run`);
  if (behaviour === "break-contract") return { number: "not a number" } as never;
  if (behaviour === "hang") await new Promise(() => {});
  if (behaviour === "say-nul") return { number, text: "\u0000" };
  return { number };
});

const handleDawdling = defineHandler(dawdling, async ({ number, behaviour }, { signal }) => {
  if (behaviour === "dawdle") await sleep(60_000, undefined, { signal });
  return { number };
});

type Behaviour = v.InferInput<typeof act.params> extends infer Params ? (Params & { behaviour?: string })["behaviour"] : never;
const tasks = (...behaviours: (Behaviour | undefined)[]) => behaviours.map((behaviour, number) => ({ number, behaviour }));

function stage(
  name: string,
  plan: () => Iterable<unknown>,
  rest: Partial<StageDefinition<unknown>> = {},
): StageDefinition<unknown> {
  return { name, task: act, plan, ...rest };
}
function job(type: string, first: StageDefinition<unknown>, ...others: StageDefinition<unknown>[]) {
  return defineJob({ type, description: type, params: v.object({}), stages: [first, ...others] as never });
}
let throwsLeft = 0;
const throwing = (what: string) => () => {
  throw new Error(`${what} threw`);
};
const ok = () => tasks("complete", "complete");
const noTasks = () => tasks();

const jobs = [
  job("zero_tasks", stage("none", noTasks), stage("some", ok)),
  job("only_zero_tasks", stage("none", noTasks)),
  job(
    "completes_early",
    stage("one", ok),
    stage("two", ok, { decide: () => ({ action: "COMPLETE_JOB", reason: "enough" }) as never }),
    stage("three", ok),
  ),
  job(
    "fails_early",
    stage("one", ok),
    stage("two", ok, { decide: () => ({ action: "fail_job", reason: "not good" }) }),
    stage("three", ok),
  ),
  job("says_create_tasks", stage("one", ok, { decide: () => ({ action: "CREATE_TASKS" }) as never }), stage("two", ok)),
  job(
    "retries_stage",
    stage("one", ok),
    stage("two", () => tasks("complete", "fail-at-first", "complete"), {
      decide: ({ failed_tasks }) => failed_tasks > 0 ? { action: "retry_stage", reason: "once more" } : { action: "advance" },
    }),
    stage("three", ok),
  ),
  job("retries_for_ever", stage("one", () => tasks("complete", "fail-for-good"), { decide: () => ({ action: "retry_stage" }) })),
  job(
    "tolerates_one",
    stage("one", () => tasks("complete", "fail-for-good", "complete"), { tolerate: { count: 1 } }),
    stage("two", ok),
  ),
  job("tolerates_percent", stage("one", () => tasks("complete", "fail", "complete", "complete"), { tolerate: { percent: 25 } })),
  job(
    "tolerates_too_few",
    stage("one", () => tasks("fail-for-good", "fail-for-good", "complete"), { tolerate: { count: 1 } }),
    stage("two", ok),
  ),
  job("fails_task", stage("one", () => tasks("complete", "fail")), stage("two", ok)),
  job("breaks_contract", stage("one", () => tasks("break-contract", "complete"), { tolerate: { count: 1 } })),
  job("says_nul", stage("one", () => tasks("say-nul", "complete"), { tolerate: { count: 1 } })),
  job(
    "is_late",
    stage("one", () => tasks("dawdle", "complete", "dawdle"), { task: dawdling, deadlineMs: 500, tolerate: { quorum: 1 } }),
    stage("two", ok),
  ),
  job(
    "is_too_late",
    stage("one", () => tasks("dawdle", "complete"), { task: dawdling, deadlineMs: 500, tolerate: { quorum: 2 } }),
  ),
  job("hangs", stage("one", () => tasks("hang", "complete"), { tolerate: { count: 1 } })),
  job("plan_throws", stage("one", throwing("plan"))),
  job(
    "plan_throws_midway",
    stage("one", function* () {
      for (let number = 0; number < 250; number++) yield { number };
      throw new Error("plan threw midway");
    }),
  ),
  job(
    "plan_throws_once",
    stage("one", function* () {
      yield { number: 0 };
      if (throwsLeft-- > 0) throw new Error("plan threw once");
      yield { number: 1 };
    }),
  ),
  job("plan_breaks_contract", stage("one", () => [{ number: "one" }])),
  job("reduce_throws", stage("one", ok, { reduce: throwing("reduce") })),
  job("decide_throws", stage("one", ok, { decide: throwing("decide") })),
  job("decides_nonsense", stage("one", ok, { decide: () => ({ action: "dance" }) as never })),
  defineJob({
    type: "finalize_throws",
    description: "",
    params: v.object({}),
    stages: [stage("one", ok)] as never,
    finalize: throwing("finalize"),
  }),
  job(
    "reduces",
    stage("one", () => tasks(...Array.from({ length: 250 }, () => "complete" as const)), {
      async reduce({ outcomes, counts }) {
        let sum = 0;
        const order: number[] = [];
        for await (const { index, result } of outcomes()) {
          sum += Number(result?.number);
          order.push(index);
        }
        return { sum, counts, ordered: order.every((index, position) => index === position) };
      },
    }),
  ),
  job(
    "several_per_message",
    stage(
      "one",
      () => tasks(...Array.from({ length: 250 }, (_, index) => index % 50 === 7 ? "fail-at-first" as const : undefined)),
      {
        tasksPerMessage: 7,
        tolerate: { count: 5 },
      },
    ),
  ),
  job(
    "chosen_per_message",
    stage("one", () => tasks(...Array.from({ length: 20 }, () => undefined)), {
      tasksPerMessage: (parameters) => v.parse(v.object({ per_message: v.optional(v.number()) }), parameters).per_message,
    }),
  ),
  job("unknown_task_type", { name: "one", task: unknown, plan: () => [{}] }),
];

let database: TestDatabase;
let transport: Transport;
let pipeline: Pipeline;

beforeAll(async () => {
  database = await createTestDatabase();
  transport = openBullmqTransport({ databaseUrl: database.url }, { lockMs: 5_000 });
  pipeline = await startPipeline({ sql: database.sql, transport, jobs, handlers: [handleAct, handleDawdling] });
});
afterAll(async () => {
  await pipeline.stop();
  await transport.close();
  await database.drop();
});

async function run(type: string) {
  const { sql } = database;
  const jobId = await pipeline.submit(type, {});
  const ended = await whenEnded(sql, jobId);
  expect(await findViolations(sql)).toEqual([]);
  const stages = await sql<
    {
      number: number;
      status: string;
      planned: number;
      completed: number;
      failed: number;
      retries: number;
      result: Record<string, unknown> | null;
    }[]
  >`
    select number, status, planned, completed, failed, retries, result from stages where job_id = ${jobId} order by number`;
  return { ...ended, stages, jobId };
}
const statuses = (stages: readonly { status: string }[]) => stages.map(({ status }) => status);

test("a stage with nothing planned has a success rate of 100 and goes on", async () => {
  const { status, stages } = await run("zero_tasks");
  expect(status).toBe("completed");
  expect(statuses(stages)).toEqual(["completed", "completed"]);
  expect(stages[0]?.result).toMatchObject({ task_count: 0, success_rate: 100, successful_tasks: 0 });
  expect((await run("only_zero_tasks")).status).toBe("completed");
});
test("complete_job from a middle stage ends the job there, in any case of letters", async () => {
  const { status, stages } = await run("completes_early");
  expect(status).toBe("completed");
  expect(stages.map(({ number }) => number)).toEqual([1, 2]);
  expect(stages[1]?.result).toMatchObject({ orchestration: { action: "complete_job", reason: "enough" } });
});
test("fail_job from a middle stage fails the job with its reason", async () => {
  const { status, error, stages } = await run("fails_early");
  expect({ status, message: error?.message }).toEqual({ status: "failed", message: "not good" });
  expect(statuses(stages)).toEqual(["completed", "failed"]);
});
test("create_tasks is accepted as advance", async () => {
  expect(statuses((await run("says_create_tasks")).stages)).toEqual(["completed", "completed"]);
});
test("retry_stage runs the failed tasks again, and only these", async () => {
  const { status, stages, jobId } = await run("retries_stage");
  expect(status).toBe("completed");
  expect(stages[1]).toMatchObject({ retries: 1, completed: 3, failed: 0 });
  const attempts = await database.sql<{ attempt: number }[]>`
    select attempt from tasks join stages on stages.id = stage_id where job_id = ${jobId} and number = 2 order by index`;
  expect(attempts.map(({ attempt }) => attempt)).toEqual([1, 3, 1]);
});
test("retry_stage is bounded", async () => {
  const { status, error, stages } = await run("retries_for_ever");
  expect(status).toBe("failed");
  expect(error?.message).toContain("more than 3 times");
  expect(stages[0]).toMatchObject({ retries: 3, completed: 1, failed: 1 });
});
test.each(["tolerates_one", "tolerates_percent"])("tolerated failures complete the job with errors: %s", async (type) => {
  const { status, stages } = await run(type);
  expect(status).toBe("completed_with_errors");
  expect(stages[0]?.result).toMatchObject({ status: "completed_with_errors", failed_tasks: 1 });
});
test.each(["tolerates_too_few", "fails_task"])("more failures than tolerated fail the job: %s", async (type) => {
  const { status, error, stages } = await run(type);
  expect(status).toBe("failed");
  expect(error).toMatchObject({
    code: "stage-failed",
    message: expect.stringMatching(/tasks of stage one failed; the first one: task \d /),
  });
  expect(stages).toHaveLength(1);
});
test.each([["breaks_contract", "contract-violation", 1], ["says_nul", "contract-violation", 1], ["hangs", "timed-out", 2]])(
  "%s: the task fails as %s",
  async (type, code, attempts) => {
    const { status, jobId } = await run(type);
    expect(status).toBe("completed_with_errors");
    const [task] = await database.sql`
      select tasks.status, attempt, tasks.error ->> 'code' as code from tasks join stages on stages.id = stage_id
      where job_id = ${jobId} and index = 0`;
    expect(task).toEqual({ status: "failed", attempt: attempts, code });
  },
);
test("what is open at a stage's deadline has failed; a quorum may do without it", async () => {
  const { status, stages, jobId } = await run("is_late");
  expect(status).toBe("completed_with_errors");
  expect(stages[0]).toMatchObject({ status: "completed", planned: 3, completed: 1, failed: 2 });
  const late = await database.sql`
    select tasks.status, tasks.error ->> 'code' as code from tasks join stages on stages.id = stage_id
    where job_id = ${jobId} and number = 1 order by index`;
  expect(late).toEqual([
    { status: "failed", code: "deadline-exceeded" },
    { status: "completed", code: null },
    { status: "failed", code: "deadline-exceeded" },
  ]);
});
test("a stage that misses its quorum at the deadline fails the job", async () => {
  expect(await run("is_too_late")).toMatchObject({ status: "failed", error: { code: "stage-failed" } });
});
test.each([
  ["plan_throws", "plan threw"],
  ["plan_throws_midway", "plan threw midway"],
  ["reduce_throws", "reduce threw"],
  ["decide_throws", "decide threw"],
  ["finalize_throws", "finalize threw"],
])("%s: tried again, a bounded number of times, then the job fails with the error", async (type, message) => {
  const { status, error, jobId } = await run(type);
  expect({ status, message: error?.message }).toEqual({ status: "failed", message });
  const [stageRow] = await database.sql`select failures, status from stages where job_id = ${jobId}`;
  expect(stageRow).toEqual({ failures: 5, status: "failed" });
});
test("a plan that throws once is run again, and plans each task once", async () => {
  throwsLeft = 1;
  const { status, stages } = await run("plan_throws_once");
  expect(status).toBe("completed");
  expect(stages[0]).toMatchObject({ planned: 2, completed: 2 });
});
test.each(["plan_breaks_contract", "decides_nonsense"])("%s: fails at once, naming the field", async (type) => {
  const { status, error } = await run(type);
  expect(status).toBe("failed");
  expect(error?.code).toBe("contract-violation");
  expect(error?.message).toMatch(/^(number|action): /);
});
test("reduce sees every outcome once, in order, a page at a time", async () => {
  const { stages } = await run("reduces");
  expect(stages[0]?.result).toMatchObject({
    metadata: { sum: 31_125, counts: { planned: 250, completed: 250, failed: 0 }, ordered: true },
    task_results_ref: expect.stringMatching(/^\/api\/db\/tasks\/[0-9a-f]{64}\?stage=1$/),
  });
});
test("several tasks per message: batches of 100 messages, each task for itself", async () => {
  const { status, stages, jobId } = await run("several_per_message");
  expect(status).toBe("completed_with_errors");
  expect(stages[0]).toMatchObject({ planned: 250, completed: 245, failed: 5 });
  const batches = await database.sql`
    select cardinality(task_ids) as tasks, tasks_per_message from outbox where job_id = ${jobId} and batch_id like '%-b%'`;
  expect(batches).toEqual([{ tasks: 250, tasks_per_message: 7 }]);
});
test.each([[{ per_message: 9 }, 9], [{}, 1]])("a job of %j puts %i tasks into a message", async (parameters, tasksPerMessage) => {
  const jobId = await pipeline.submit("chosen_per_message", parameters);
  expect(await whenEnded(database.sql, jobId)).toMatchObject({ status: "completed" });
  const batches = await database.sql`select cardinality(task_ids) as tasks, tasks_per_message from outbox
    where job_id = ${jobId} and batch_id like '%-b%'`;
  expect(batches).toEqual([{ tasks: 20, tasks_per_message: tasksPerMessage }]);
});
test("a task of a type that no runner knows waits, then fails as unknown-type", async () => {
  const { sql } = database;
  const jobId = await pipeline.submit("unknown_task_type", {});
  await expect.poll(() =>
    sql`
    select from tasks join stages on stages.id = stage_id where job_id = ${jobId} and tasks.deferrals > 0`.then((rows) =>
      rows.length
    ), { timeout: 20_000 })
    .toBe(1);
  // The bound is minutes away; what remains of it is taken from the row.
  await sql`update tasks set deferrals = 9, not_before = now() from stages where stages.id = stage_id and job_id = ${jobId}`;
  await sql`update outbox set not_before = now() where job_id = ${jobId}`;
  expect(await whenEnded(sql, jobId)).toMatchObject({ status: "failed", error: { code: "stage-failed" } });
  const [task] =
    await sql`select tasks.error ->> 'code' as code from tasks join stages on stages.id = stage_id where job_id = ${jobId}`;
  expect(task?.code).toBe("unknown-type");
});

import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { redriveOnce } from "../../services/poison-handler/redrive.ts";
import { openDatabase, type Sql } from "../../shared/store/database.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { createRedrive, freezeSelection } from "../../shared/store/redrives.ts";
import { startJob } from "../../shared/store/jobs.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type PostgresProxy, startPostgresProxy, type StatementFault } from "../support/postgres-proxy.ts";
import { createOperator, decide, end, failJob, greetingSeed, judgeFailures, openJob } from "./failed-work.ts";

const log = pino({ level: "silent" });
const { signal } = new AbortController();
let database: TestDatabase;
let proxy: PostgresProxy;
let proxied: Sql;

beforeAll(async () => {
  database = await createTestDatabase();
  proxy = await startPostgresProxy(database.url);
  proxied = openDatabase(proxy.url, { applicationName: "tests", max: 1 });
});
afterAll(async () => {
  await proxied.end({ timeout: 5 });
  await proxy.stop();
  await database.drop();
});

/** One redrive of a task in a running job and two in an ended one, from its start until it has ended, by whatever handler comes next. */
async function redriveAll(name: string): Promise<void> {
  const { sql } = database;
  const running = await openJob(sql, 2, { name: `${name} running` });
  await end(sql, running.taskIds.slice(0, 1), "failed");
  const ended = await openJob(sql, 2, { name: `${name} ended` });
  await end(sql, ended.taskIds, "failed");
  await decide(sql, ended, failJob);
  await judgeFailures(sql);
  const operator = createOperator(sql);
  const tasks = [...running.taskIds.slice(0, 1), ...ended.taskIds];
  const redriveId = await operator.start({ select: { tasks }, rate_per_second: 1_000 });

  async function workUntil(isDone: (progress: Record<string, number>) => boolean): Promise<void> {
    for (let round = 0; !isDone((await operator.get(redriveId)).progress); round++) {
      if (round > 200) throw new Error(`${name}: ${await operator.outcomes(redriveId)}`);
      await sql`update leases set lease_until = now()`; // the last handler may have died
      await redriveOnce({ sql: proxied, id: `poison-${round}`, log }, signal).catch(() => {});
    }
  }

  await workUntil(({ opened, waiting }) => opened === 3 && waiting === 0);
  await startJob(sql, `orchestrator/${name}`, { jobId: ended.jobId, run: 2, stage: greetingSeed });
  await end(sql, tasks, "completed");
  await workUntil(({ succeeded }) => succeeded === 3);
  for (let round = 0; (await operator.get(redriveId)).ended_at === null; round++) {
    if (round > 200) throw new Error(`${name} does not end`);
    await sql`update leases set lease_until = now()`;
    await redriveOnce({ sql: proxied, id: `poison-${round}`, log }, signal).catch(() => {});
  }
  expect(
    await sql`
      select status, reopened, attempt from tasks where id in (select task_id from redrive_items where redrive_id = ${redriveId})
      order by id`,
  ).toEqual(tasks.map(() => ({ status: "completed", reopened: 1, attempt: 2 })));
  const counts = await sql`
    select count(*) filter (where kind = 'task-redriven')::int as redriven, count(*) filter (where kind = 'job-retried')::int as retried
    from events where job_id in (${running.jobId}, ${ended.jobId})`;
  expect(counts).toEqual([{ redriven: 1, retried: 1 }]);
}

test.each<[StatementFault, step: number]>([["drop", 2], ["lose-answer", 1], ["cut-answer", 4]])(
  "whichever statement of the handler fails, the next goes on, and nothing is lost or done twice: %s, in steps of %i",
  async (fault, step) => {
    let n = 1 - step;
    for (let struck = true; struck;) {
      n += step;
      struck = false;
      proxy.setFault((statement) => {
        if (statement !== n) return undefined;
        struck = true;
        return fault;
      });
      await redriveAll(`${fault} ${n}`);
      proxy.setFault(null);
    }
    expect(n).toBeGreaterThan(40);
    expect(await findViolations(database.sql)).toEqual([]);
  },
  240_000,
);

test("a redrive whose api died while it froze the selection is stopped, one that is being frozen is not", async () => {
  const { sql } = database;
  const { taskIds } = await openJob(sql, 2, { name: "abandoned" });
  const request = { select: { tasks: [...taskIds] }, canary: 0, max_failure_share: 0.5 };
  const abandoned = await createRedrive(sql, "ada", request);
  await sql`update leases set lease_until = now() where name = ${`redrive-${abandoned.redriveId}`}`;
  const frozen = await createRedrive(sql, "ada", request);
  await redriveOnce({ sql, id: "poison-1", log }, signal);

  const statuses = await sql`
    select status, stopped_by as by, ended_at is not null as ended from redrives
    where id in (${abandoned.redriveId}, ${frozen.redriveId}) order by id`;
  expect([...statuses]).toEqual([
    { status: "stopped", by: null, ended: true },
    { status: "selecting", by: null, ended: false },
  ]);
  await freezeSelection(sql, frozen, { request, checkEdited: () => ({ problem: "not edited" }) });
  expect([...await sql`select status from redrives where id = ${frozen.redriveId}`]).toEqual([{ status: "preview" }]);
  expect([...await sql`select from leases where name = ${`redrive-${frozen.redriveId}`}`]).toEqual([]);
});

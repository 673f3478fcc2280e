import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { redriveOnce } from "../../services/poison-handler/redrive.ts";
import { openDatabase, type Sql } from "../../shared/store/database.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { createRedrive, freezeSelection, redriveLease, stopRedrive } from "../../shared/store/redrives.ts";
import { startJob } from "../../shared/store/jobs.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type PostgresProxy, startPostgresProxy, type StatementFault } from "../support/postgres-proxy.ts";
import { startRole } from "../support/processes.ts";
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

test("a redrive whose api was killed while it froze the selection is stopped, once its lease has expired", async () => {
  const { sql } = database;
  const { taskIds } = await openJob(sql, 2, { name: "abandoned" });
  const api = await startRole("api", { DATABASE_URL: database.url, TRANSPORTS: "bullmq", BULLMQ_DATABASE_URL: database.url });
  const asked = await sql.begin(async (tx) => {
    await tx`lock table redrive_items in access exclusive mode`;
    const answer = fetch(`http://127.0.0.1:${api.port}/api/poison/redrives`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ select: { tasks: taskIds } }),
    }).then(() => "answered", () => "cut off");
    await expect.poll(() => sql`select from pg_locks where not granted and relation = 'redrive_items'::regclass`).toHaveLength(1);
    await api.end("SIGKILL");
    return await answer;
  });
  expect(asked).toBe("cut off");
  const [abandoned] = await sql<{ id: number; status: string }[]>`select id, status from redrives order by id desc limit 1`;
  expect(abandoned?.status).toBe("selecting");
  const lookAgain = async (id: string) => {
    await redriveOnce({ sql, id, log }, signal);
    const [row] = await sql`
      select status, stopped_by as by, ended_at is not null as ended from redrives where id = ${abandoned?.id ?? 0}`;
    return row;
  };
  const lease = redriveLease(abandoned?.id ?? 0);

  expect(await lookAgain("poison-1")).toEqual({ status: "selecting", by: null, ended: false });
  await sql`update leases set lease_until = now() where name = ${lease}`;
  expect(await lookAgain("poison-2")).toEqual({ status: "stopped", by: null, ended: true });
  expect([...await sql`select from leases where name = ${lease}`]).toEqual([]);
});

test("a redrive that was frozen meanwhile is not stopped by a handler that still takes it for abandoned", async () => {
  const { sql } = database;
  const { taskIds } = await openJob(sql, 2, { name: "frozen" });
  const request = { select: { tasks: [...taskIds] }, canary: 0, max_failure_share: 0.5 };
  const frozen = await createRedrive(sql, "ada", request);
  await freezeSelection(sql, frozen, { request, checkEdited: () => ({ problem: "not edited" }) });
  expect([...await sql`select from leases where name = ${redriveLease(frozen.redriveId)}`]).toEqual([]);
  expect(await stopRedrive(sql, frozen.redriveId, { by: null, reason: "late", from: ["selecting"] })).toBe(false);
  expect([...await sql`select status from redrives where id = ${frozen.redriveId}`]).toEqual([{ status: "preview" }]);
});

import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { retryWhileAway, type Sql } from "../../shared/store/database.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { createTestDatabase } from "../support/database.ts";
import { type RoleProcess, startRole } from "../support/processes.ts";
import { createRandom } from "../support/random.ts";
import { createOperator, decide, end, failJob, openJob, poisonFailedTasks } from "./failed-work.ts";

/** What came of killing poison-handlers while they redrove. */
export interface KillReport {
  readonly items: number;
  readonly kills: number;
  /** Kills that struck while items were waiting still. */
  readonly inFlight: number;
}

/**
 * Kills both of two poison-handlers at random, again and again, until everything that was selected has been opened: half of it in
 * a running job, one by one, half of it in ended jobs. None is lost, none is opened twice.
 */
export async function killWhileRedriving(items: number, seed: number): Promise<KillReport> {
  const random = createRandom(seed);
  const database = await createTestDatabase();
  const { sql } = database;
  const environment = { DATABASE_URL: database.url, CLAIM_CHECK_DIRECTORY: "/tmp/sluice-redrive-claim-checks" };
  const start = () => startRole("poison-handler", environment);
  const running = new Set<RoleProcess>();
  try {
    const half = items / 2;
    const open = await openJob(sql, half + 1, { name: "running" });
    await end(sql, open.taskIds.slice(0, half), "failed");
    const jobs = 10;
    for (let number = 0; number < jobs; number++) {
      const job = await openJob(sql, half / jobs, { name: `ended ${number}` });
      await end(sql, job.taskIds, "failed");
      await decide(sql, job, failJob);
    }
    await poisonFailedTasks(sql);
    const operator = createOperator(sql);
    // Spread over several seconds, so that kills strike all along it.
    const redriveId = await operator.start({ select: { all: true }, rate_per_second: Math.max(50, items / 10) });
    for (let process = 0; process < 2; process++) running.add(await start());
    let kills = 0;
    let inFlight = 0;
    for (const giveUpAt = Date.now() + 300_000; await countWaiting(sql) > 0; kills++) {
      if (Date.now() > giveUpAt) throw new Error(`${await countWaiting(sql)} items are still waiting`);
      await sleep(random.integer(400));
      const victim = [...running][random.integer(running.size)];
      if (!victim) continue;
      await victim.end("SIGKILL");
      running.delete(victim);
      if (await countWaiting(sql) > 0) inFlight += 1;
      running.add(await start());
    }
    const statuses =
      await sql`select status, count(*)::int as n from redrive_items where redrive_id = ${redriveId} group by status`;
    expect(statuses).toEqual([{ status: "opened", n: items }]);
    expect(await sql`select sum(reopened)::int as n from tasks`).toEqual([{ n: half }]);
    expect(await sql`select count(*)::int as n from outbox where batch_id like '%-d%'`).toEqual([{ n: half }]);
    expect(await sql`select count(*)::int as n from events where kind = 'task-redriven'`).toEqual([{ n: half }]);
    expect(await sql`select run, count(*)::int as n from jobs where status = 'queued' group by run`).toEqual([{
      run: 2,
      n: jobs,
    }]);
    expect(await sql`select count(*)::int as n from tasks where retry_run = 2`).toEqual([{ n: half }]);
    expect(await sql`select status, count(*)::int as n from poison_messages group by status`).toEqual([{
      status: "redriven",
      n: items,
    }]);
    expect(await findViolations(sql)).toEqual([]);
    return { items, kills, inFlight };
  } finally {
    await Promise.all([...running].map((process) => process.end("SIGKILL")));
    await database.drop();
  }
}

async function countWaiting(sql: Sql): Promise<number> {
  const [row] = await retryWhileAway(
    () => sql<{ n: number }[]>`select count(*)::int as n from redrive_items where status = 'waiting'`,
    AbortSignal.timeout(60_000),
  );
  return row?.n ?? 0;
}

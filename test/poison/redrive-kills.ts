import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import type { Sql } from "../../shared/store/database.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { createTestDatabase } from "../support/database.ts";
import { type RoleProcess, startRole } from "../support/processes.ts";
import { createRandom } from "../support/random.ts";
import { createOperator, decide, end, failJob, judgeFailures, openJob } from "./failed-work.ts";

/** What came of killing poison-handlers while they redrove. */
export interface KillReport {
  readonly items: number;
  readonly kills: number;
  /** Kills that struck the handler that held the redrive, while items were waiting still. */
  readonly atWork: number;
}

const jobs = 10;

/**
 * Kills whichever of two poison-handlers is at work, at most so many times, while they open what was selected: half of it in a
 * running job, one by one, half of it in ended jobs. None is lost, none is opened twice.
 */
export async function killWhileRedriving(
  items: number,
  { seed, rate, most }: { seed: number; rate: number; most: number },
): Promise<KillReport> {
  const random = createRandom(seed);
  const database = await createTestDatabase();
  const { sql } = database;
  const environment = { DATABASE_URL: database.url, CLAIM_CHECK_DIRECTORY: "/tmp/sluice-redrive-claim-checks" };
  const running = new Set<RoleProcess>();
  const starting = new Set<Promise<void>>();
  function start(): void {
    const started = startRole("poison-handler", environment).then((process) => {
      running.add(process);
      starting.delete(started);
    });
    starting.add(started);
  }
  try {
    const half = items / 2;
    const open = await openJob(sql, half + 1, { name: "running" });
    await end(sql, open.taskIds.slice(0, half), "failed");
    for (let number = 0; number < jobs; number++) {
      const job = await openJob(sql, half / jobs, { name: `ended ${number}` });
      await end(sql, job.taskIds, "failed");
      await decide(sql, job, failJob);
    }
    await judgeFailures(sql);
    const redriveId = await createOperator(sql).start({ select: { all: true }, rate_per_second: rate });
    start();
    start();
    let kills = 0;
    let atWork = 0;
    for (const giveUpAt = Date.now() + 600_000; await countWaiting(sql) > 0;) {
      if (Date.now() > giveUpAt) throw new Error(`${await countWaiting(sql)} items are still waiting`);
      if (kills === most) {
        await sleep(100);
        continue;
      }
      const owner = await findOwner(sql, redriveId);
      const victim = [...running].find(({ id }) => id === owner);
      if (!victim) {
        await sleep(20);
        continue;
      }
      await sleep(random.integer(800));
      victim.signal("SIGSTOP"); // to see whether it was at work
      if (await findOwner(sql, redriveId) === victim.id && await countWaiting(sql) > 0) atWork += 1;
      await victim.end("SIGKILL");
      running.delete(victim);
      kills += 1;
      start();
    }
    await Promise.all(starting);
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
    expect(await sql`select status, count(*)::int as n from poison_messages group by status`).toEqual([
      { status: "redriven", n: items },
    ]);
    expect(await findViolations(sql)).toEqual([]);
    return { items, kills, atWork };
  } finally {
    await Promise.allSettled(starting);
    await Promise.all([...running].map((process) => process.end("SIGKILL")));
    await database.drop();
  }
}

/** Who holds the lease of the redrive. */
async function findOwner(sql: Sql, redriveId: number): Promise<string | undefined> {
  const [lease] = await sql<{ owner: string }[]>`
    select owner from leases where name = ${`redrive-${redriveId}`} and lease_until > now()`;
  return lease?.owner;
}

async function countWaiting(sql: Sql): Promise<number> {
  const [row] = await sql<{ n: number }[]>`select count(*)::int as n from redrive_items where status = 'waiting'`;
  return row?.n ?? 0;
}

import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { migrate } from "../../shared/store/migrate.ts";
import { isDatabaseAway, openDatabase, retryWhileAway } from "../../shared/store/database.ts";
import { test } from "../support/database.ts";
import { startFreezingProxy } from "../support/freezing-proxy.ts";
import { startPostgresProxy } from "../support/postgres-proxy.ts";

test("a pool whose connections are ended again and again answers everything, in statements and in transactions", async ({ sql, database }) => {
  const pool = openDatabase(database.url, { applicationName: "lost-connections", max: 6 });
  const signal = AbortSignal.timeout(60_000);
  let ended = 0;
  let answered = false;
  const ending = (async () => {
    while (!answered) {
      await sleep(50);
      const rows = await sql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'sluice-lost-connections' and datname = current_database()`;
      ended += rows.length;
    }
  })();
  const answers = await Promise.all(Array.from({ length: 12 }, async (_, worker) => {
    let sum = 0;
    for (let round = 0; round < 200; round++) {
      sum += await retryWhileAway(async () => {
        if (worker % 2 === 0) return Number((await pool`select ${round}::int as n`)[0]?.n);
        return await pool.begin(async (tx) => {
          await tx`select pg_sleep(0.002)`;
          return Number((await tx`select ${round}::int as n`)[0]?.n);
        });
      }, signal);
    }
    return sum;
  }));
  answered = true;
  await ending;
  await pool.end({ timeout: 5 });
  expect(ended).toBeGreaterThan(10);
  expect(answers).toEqual(Array(12).fill(19_900)); // 0 + 1 + … + 199
});

test("an answer that breaks off behind its first row is lost whole, and leaves nothing to the answers that follow", async ({ database }) => {
  const proxy = await startPostgresProxy(database.url);
  const pool = openDatabase(proxy.url, { applicationName: "lost-connections", max: 1 });
  const rowsOf = async () => [...await pool`select n from generate_series(1, 3) as n`];
  const whole = [{ n: 1 }, { n: 2 }, { n: 3 }];
  expect(await rowsOf()).toEqual(whole);
  proxy.setFault((n) => (n === 1 ? "cut-answer" : undefined));
  await expect(rowsOf()).rejects.toThrow("CONNECTION_CLOSED");
  expect(await rowsOf()).toEqual(whole);
  expect(await rowsOf()).toEqual(whole);
  await pool.end({ timeout: 5 });
  await proxy.stop();
});

test("a connection that falls silent is given up when the server would long have ended the statement", async ({ database }) => {
  const url = new URL(database.url);
  const proxy = await startFreezingProxy(Number(url.port));
  url.port = String(proxy.port);
  url.searchParams.set("statement_timeout", "200");
  const pool = openDatabase(url.href, { applicationName: "lost-connections", max: 1 });
  expect([...await pool`select 1 as n`]).toEqual([{ n: 1 }]);
  proxy.freeze();
  const [silent, waiting] = await Promise.allSettled([pool`select 2 as n`, pool`select 3 as n`]);
  for (const { status, reason } of [silent, waiting] as PromiseRejectedResult[]) {
    expect({ status, isAway: isDatabaseAway(reason) }).toEqual({ status: "rejected", isAway: true });
  }
  expect([...await pool`select 4 as n`]).toEqual([{ n: 4 }]);
  await pool.end({ timeout: 5 });
  await proxy.stop();
});

test("a migration may be silent for longer than any other statement: it waits for another one, for example", async ({ sql, database }) => {
  const url = new URL(database.url);
  url.searchParams.set("statement_timeout", "200"); // silence ends a connection 5 s after that
  const pool = openDatabase(url.href, { applicationName: "lost-connections", max: 1 });
  const migrating = await sql.begin(async (tx) => {
    await tx`select pg_advisory_xact_lock(${0x736c7569})`;
    const waiting = migrate(pool);
    waiting.catch(() => {});
    await tx`select pg_sleep(6)`;
    return { waiting };
  });
  expect(await migrating.waiting).toEqual([]);
  await pool.end({ timeout: 5 });
});

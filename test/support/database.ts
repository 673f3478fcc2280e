import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { inject, test as base } from "vitest";
import { openDatabase, type Sql } from "../../shared/store/database.ts";
import { runnerLeaseMs } from "../../shared/store/runners.ts";
import { readUptimeMs } from "../../shared/store/sweep.ts";

export interface TestDatabase {
  readonly sql: Sql;
  readonly url: string;
  drop(): Promise<void>;
}

/** A migrated database of the test's own, on the server of this run. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const serverUrl = inject("postgresUrl");
  const name = `test_${randomBytes(6).toString("hex")}`;
  const admin = openDatabase(serverUrl, { applicationName: "tests", max: 1 });
  await admin`create database ${admin(name)} template sluice_template`;
  const url = new URL(`/${name}`, serverUrl).href;
  const sql = openDatabase(url, { applicationName: "tests", max: 20 });
  return {
    sql,
    url,
    async drop() {
      await sql.end({ timeout: 5 });
      await admin`drop database ${admin(name)} with (force)`;
      await admin.end();
    },
  };
}

/** Until then, leases that expired say nothing: nobody could renew them while the server was away. */
export async function whenLeasesMeanSomething(): Promise<void> {
  const { sql, drop } = await createTestDatabase();
  while (await readUptimeMs(sql) < runnerLeaseMs) await sleep(200);
  await drop();
}

/** `test`, with `sql` on a database of its own. */
export const test = base.extend<{ database: TestDatabase; sql: Sql }>({
  // deno-lint-ignore no-empty-pattern
  database: async ({}, use) => {
    const database = await createTestDatabase();
    await use(database);
    await database.drop();
  },
  sql: async ({ database }, use) => await use(database.sql),
});

import { expect } from "vitest";
import { jobTransitions, stageTransitions, taskTransitions } from "../../shared/status.ts";
import { openDatabase } from "../../shared/store/database.ts";
import { findSchemaProblem, migrate } from "../../shared/store/migrate.ts";
import { test } from "../support/database.ts";

test("the database allows exactly the changes of the status table, pair by pair", async ({ sql }) => {
  const tables = { jobs: jobTransitions, stages: stageTransitions, tasks: taskTransitions };
  for (const [table, transitions] of Object.entries(tables)) {
    await sql.unsafe(`create table probe_${table} (id int default 1, status text)`);
    const [trigger] = await sql`
      select pg_get_triggerdef(oid) as definition from pg_trigger where tgrelid = ${table}::regclass and tgname = ${
      table + "_status"
    }`;
    await sql.unsafe(String(trigger?.definition).replace(`ON public.${table}`, `ON public.probe_${table}`));
    const statuses = Object.keys(transitions);
    for (const from of statuses) {
      for (const to of statuses) {
        await sql.unsafe(`truncate probe_${table}`);
        await sql.unsafe(`insert into probe_${table} (status) values ('${from}')`);
        const change = sql.unsafe(`update probe_${table} set status = '${to}'`).then(() => "allowed", () => "refused");
        const allowed = from === to || (transitions as Record<string, readonly string[]>)[from]?.includes(to);
        expect(`${table}: ${from} to ${to} is ${await change}`).toBe(
          `${table}: ${from} to ${to} is ${allowed ? "allowed" : "refused"}`,
        );
      }
    }
  }
});

test("ten processes that start at once apply each migration once", async ({ sql, database }) => {
  await sql`drop schema public cascade`;
  await sql`create schema public`;
  expect(await findSchemaProblem(sql)).toBe("the schema has not been deployed");
  const applied = await Promise.all(Array.from({ length: 10 }, async () => {
    const own = openDatabase(database.url, { applicationName: "tests", max: 1 });
    return await migrate(own).finally(() => own.end());
  }));
  const names = applied.flat();
  expect(names).toContain("0001_pipeline.sql");
  expect(new Set(names).size).toBe(names.length);
  expect(await findSchemaProblem(sql)).toBeNull();
});

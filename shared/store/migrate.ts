import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { type Db, openPatient, type Sql, withConflictRetry } from "./database.ts";

const directory = new URL("./migrations/", import.meta.url);
/** Any constant, the same in every process: "slui" in ASCII. */
const advisoryLock = 0x736c7569;

interface Migration {
  readonly name: string;
  readonly text: string;
  readonly hash: string;
}

async function readMigrations(): Promise<readonly Migration[]> {
  const names = (await readdir(directory)).filter((name) => name.endsWith(".sql")).sort();
  return await Promise.all(names.map(async (name) => {
    const text = await readFile(new URL(name, directory), "utf8");
    return { name, text, hash: createHash("sha256").update(text).digest("hex") };
  }));
}

/**
 * Brings the schema up to date, forward only, in one transaction. Any number of processes may call it at once. Rejects if a
 * migration that was applied has been edited since, or if the schema is newer than this process. Returns what it applied.
 */
export async function migrate(sql: Sql): Promise<readonly string[]> {
  await using patient = openPatient(sql);
  return await patient.sql.begin(async (tx) => {
    await tx`select pg_advisory_xact_lock(${advisoryLock})`;
    return await applyMigrations(tx);
  });
}

/**
 * Drops everything in the current schema (BullMQ has one of its own) and deploys it again, empty, in one transaction. Whoever works on
 * it meanwhile waits, and then finds no rows. Keys go on where they were: what somebody still holds of an old row means no new one.
 */
export async function redeploySchema(sql: Sql): Promise<readonly string[]> {
  await using patient = openPatient(sql);
  return await withConflictRetry(() =>
    patient.sql.begin(async (tx) => {
      await tx`set local lock_timeout = '20s'`;
      await tx`select pg_advisory_xact_lock(${advisoryLock})`;
      const sequences = await tx<{ name: string; last: string }[]>`
        select sequencename as name, last_value::text as last from pg_sequences
        where schemaname = current_schema() and last_value is not null`;
      await tx`
        do $$ declare dropped text; begin
          for dropped in
            select 'table ' || oid::regclass || ' cascade' from pg_class
            where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p')
              and not exists (select from pg_depend where objid = pg_class.oid and deptype = 'e')
            union all
            select 'function ' || oid::regprocedure || ' cascade' from pg_proc
            where pronamespace = current_schema()::regnamespace and prokind = 'f'
              and not exists (select from pg_depend where objid = pg_proc.oid and deptype = 'e')
          loop execute 'drop ' || dropped; end loop;
        end $$`;
      const applied = await applyMigrations(tx);
      for (const { name, last } of sequences) await tx`select setval(to_regclass(quote_ident(${name})), ${last}::text::bigint)`;
      return applied;
    })
  );
}

async function applyMigrations(tx: Db): Promise<readonly string[]> {
  await tx`create table if not exists schema_migrations (
    name text primary key, hash text not null, applied_at timestamptz not null default now())`;
  const applied = await readApplied(tx);
  const fresh: string[] = [];
  for (const { name, text, hash } of await readMigrations()) {
    const known = applied.get(name);
    if (known !== undefined && known !== hash) throw new Error(`migration ${name} was edited after it had been applied`);
    if (known !== undefined) continue;
    await tx.unsafe(text);
    await tx`insert into schema_migrations (name, hash) values (${name}, ${hash})`;
    fresh.push(name);
  }
  return fresh;
}

/** What keeps this process from working on the database's schema; null if nothing does. */
export async function findSchemaProblem(sql: Db): Promise<string | null> {
  const [table] = await sql`select to_regclass('schema_migrations') is not null as exists`;
  if (!table?.exists) return "the schema has not been deployed";
  const applied = await readApplied(sql);
  const missing = (await readMigrations()).filter(({ name, hash }) => applied.get(name) !== hash);
  return missing.length === 0 ? null : `the schema lacks ${missing.map(({ name }) => name).join(", ")}`;
}

async function readApplied(sql: Db): Promise<ReadonlyMap<string, string>> {
  const rows = await sql<{ name: string; hash: string }[]>`select name, hash from schema_migrations`;
  return new Map(rows.map(({ name, hash }) => [name, hash]));
}

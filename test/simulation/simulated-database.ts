import { openDatabase, type Sql } from "../../shared/store/database.ts";
import type { Mutator } from "./mutation.ts";
import { runOn } from "./virtual-time.ts";
import type { SimulatedProcess, World } from "./world.ts";

/** A database in which `now()` is the simulation's, and `random()` always in the middle. One run at a time. */
export interface SimulationDatabase {
  readonly sql: Sql;
  /** Empties it, keys start anew. */
  reset(): Promise<void>;
  /** Sets the time, in milliseconds. */
  setTime(ms: number): Promise<void>;
  /** From when on the server is up. */
  setStart(ms: number): Promise<void>;
  drop(): Promise<void>;
}

/** 2030-01-01 is the simulation's 0. */
export const epochMs = Date.UTC(2030, 0, 1);

/** Makes a database from the template; `ddl` takes guards out of its schema. */
export async function createSimulationDatabase(
  serverUrl: string,
  name: string,
  ddl: readonly string[] = [],
): Promise<SimulationDatabase> {
  const admin = openDatabase(serverUrl, { applicationName: "tests", max: 1 });
  await admin`create database ${admin(name)} template sluice_template`;
  const url = new URL(`/${name}`, serverUrl);
  // Unqualified, now() is looked up in this path. Generic plans, and none by statistics, so that rows always come in one order.
  url.searchParams.set("search_path", "public, pg_catalog");
  url.searchParams.set("plan_cache_mode", "force_generic_plan");
  url.searchParams.set("jit", "off");
  url.searchParams.set("synchronous_commit", "off");
  url.searchParams.set("max_lifetime", "1000000");
  const sql = openDatabase(url.href, { applicationName: "tests", max: 1 });
  await sql.unsafe(`
    create function public.now() returns timestamptz stable language sql
      as $$ select current_setting('simulation.now')::timestamptz $$;
    create function public.random() returns float8 stable language sql as $$ select 0.5::float8 $$;
    create function public.pg_postmaster_start_time() returns timestamptz stable language sql
      as $$ select current_setting('simulation.start')::timestamptz $$;`);
  const defaults = await sql<{ table: string; column: string }[]>`
    select table_name as table, column_name as column from information_schema.columns
    where table_schema = 'public' and column_default in ('now()', 'pg_catalog.now()')`;
  for (const { table, column } of defaults) {
    await sql`alter table ${sql(table)} alter column ${sql(column)} set default public.now()`;
  }
  const tables = (await sql<{ name: string }[]>`
    select tablename as name from pg_tables where schemaname = 'public' and tablename <> 'schema_migrations' order by 1`)
    .map(({ name }) => name);
  for (const table of tables) await sql`alter table ${sql(table)} set (autovacuum_enabled = false)`;
  for (const statement of ddl) await sql.unsafe(statement);

  const settings = new Map<string, number>();
  const set = async (setting: string, ms: number) => {
    if (settings.get(setting) === ms) return;
    settings.set(setting, ms);
    await sql`select set_config(${setting}, ${new Date(epochMs + ms).toISOString()}, false)`;
  };
  return {
    sql,
    async reset() {
      settings.clear(); // a connection that had nothing to do for a minute was closed, and they with it
      await sql`truncate ${sql(tables)} restart identity cascade`;
    },
    setTime: (ms) => set("simulation.now", ms),
    setStart: (ms) => set("simulation.start", ms),
    async drop() {
      await sql.end({ timeout: 5 });
      await admin`drop database ${admin(name)} with (force)`;
      await admin.end();
    },
  };
}

export interface SimulatedSqlOptions {
  readonly world: World;
  readonly process: SimulatedProcess;
  readonly database: SimulationDatabase;
  readonly mutator: Mutator;
  /** False takes transactions apart: each statement of theirs commits by itself. */
  readonly atomic: boolean;
  /** Called after each operation that may have written. */
  readonly written: () => Promise<void>;
}

type Tag = (strings: TemplateStringsArray, ...args: unknown[]) => PromiseLike<unknown>;

/**
 * `sql` as a simulated process sees it: a statement that is awaited is an operation of the world, and so is a whole transaction.
 * One that is not awaited may be a fragment of another.
 */
export function createSimulatedSql({ world, process, database, mutator, atomic, written }: SimulatedSqlOptions): Sql {
  const { sql } = database;
  /** One round trip: the time, the statement and the check of what it wrote follow one another on the one connection. */
  async function execute(statement: Statement, real: Tag): Promise<unknown> {
    const set = database.setTime(world.now);
    const answer = Promise.resolve(statement.build(real));
    const check = statement.writes ? written() : null;
    await answer.catch(() => {});
    await Promise.all([set, check]);
    return await answer;
  }

  /** A statement or fragment that isn't sent before it is awaited. */
  class Statement implements PromiseLike<unknown> {
    readonly strings: TemplateStringsArray;
    readonly args: readonly unknown[];
    readonly #send: (statement: Statement) => Promise<unknown>;
    #answer: Promise<unknown> | undefined;

    constructor(strings: TemplateStringsArray, args: readonly unknown[], send: (statement: Statement) => Promise<unknown>) {
      ({ strings: this.strings, args: this.args } = mutator.rewrite(strings, args));
      this.#send = send;
    }
    get writes(): boolean {
      return this.strings.some((text) => /\b(insert|update|delete)\b/.test(text)) ||
        this.args.some((arg) => arg instanceof Statement && arg.writes);
    }
    /** The real one, of a real pool, transaction or session. */
    build(real: Tag): PromiseLike<unknown> {
      return real(this.strings, ...this.args.map((arg) => arg instanceof Statement ? arg.build(real) : arg));
    }
    get #sent(): Promise<unknown> {
      return this.#answer ??= this.#send(this);
    }
    then<Fulfilled = unknown, Rejected = never>(
      onFulfilled?: ((value: unknown) => Fulfilled | PromiseLike<Fulfilled>) | null,
      onRejected?: ((reason: unknown) => Rejected | PromiseLike<Rejected>) | null,
    ): Promise<Fulfilled | Rejected> {
      return this.#sent.then(onFulfilled, onRejected);
    }
    catch<Rejected>(onRejected: (reason: unknown) => Rejected | PromiseLike<Rejected>): Promise<unknown> {
      return this.#sent.catch(onRejected);
    }
    finally(onFinally: () => void): Promise<unknown> {
      return this.#sent.finally(onFinally);
    }
  }

  function createTag(real: Tag, send: (statement: Statement, real: Tag) => Promise<unknown>) {
    return (first: unknown, ...rest: unknown[]): unknown => {
      const isTemplate = typeof first === "object" && first !== null && "raw" in first;
      if (!isTemplate) return (real as (...values: unknown[]) => unknown)(first, ...rest);
      return new Statement(first as TemplateStringsArray, rest, (statement) => send(statement, real));
    };
  }

  const send = (statement: Statement, real: Tag) =>
    world.operate(process, "database", nameOf(statement.strings), () => execute(statement, real), {
      canBeLate: true,
    });

  const simulated = Object.assign(createTag(sql as unknown as Tag, send), {
    json: sql.json,
    async begin(run: (tx: unknown) => unknown): Promise<unknown> {
      if (!atomic) return await run(simulated);
      return await world.operate(process, "database", "transaction", async () => {
        await database.setTime(world.now);
        try {
          return await sql.begin((tx) => {
            const inside = createTag(tx as unknown as Tag, async (statement, real) => {
              world.say(`${process.name}   ${nameOf(statement.strings)}`);
              return await statement.build(real);
            });
            return runOn(process, () => run(Object.assign(inside, { json: tx.json })));
          });
        } finally {
          await written();
        }
      });
    },
  });
  return simulated as unknown as Sql;
}

const names = new WeakMap<TemplateStringsArray, string>();

/** Where in the engine a statement is, and how it begins. */
function nameOf(strings: TemplateStringsArray): string {
  let name = names.get(strings);
  if (name === undefined) {
    name = strings.join("?").replace(/--.*$/gm, "").replace(/\s+/g, " ").trim();
    const target = /(insert into \w+|update \w+(?! of)|delete from \w+)/.exec(name)?.[0];
    name = `${name.slice(0, 60)}${target && !name.startsWith(target) ? ` … ${target}` : ""}`;
    names.set(strings, name);
  }
  return name;
}

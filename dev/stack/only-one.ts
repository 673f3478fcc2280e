import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { findCommandLine } from "../postgres/orphan.ts";

/** Keeps two stacks from sharing one state. A lock that a killed one left doesn't count. Resolves to what gives it back. */
export async function lockState(stateDirectory: string): Promise<() => Promise<void>> {
  const path = join(stateDirectory, "stack.pid");
  await mkdir(stateDirectory, { recursive: true });
  const pid = Number(await readFile(path, "utf8").catch(() => ""));
  if (pid && pid !== process.pid && (await findCommandLine(pid))?.includes("dev/dev.ts")) {
    throw new Error(`another stack (process ${pid}) works in ${stateDirectory}`);
  }
  await writeFile(path, String(process.pid));
  return () => rm(path, { force: true });
}

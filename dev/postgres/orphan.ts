import { execFileSync } from "node:child_process";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** How a process was started; undefined if there is none with this id. */
export async function findCommandLine(pid: number): Promise<string | undefined> {
  try {
    if (process.platform === "linux") {
      return (await readFile(`/proc/${pid}/cmdline`, "utf8")).replaceAll("\0", " ").trim() || undefined;
    }
    return execFileSync("ps", ["-o", "command=", "-p", String(pid)], { encoding: "utf8" }).trim() || undefined;
  } catch {
    return undefined;
  }
}

/**
 * Makes way for a server: one that still runs on these data, because whoever started it was killed, is stopped; and a lock file
 * whose process id means somebody else by now is removed, which PostgreSQL itself would believe.
 */
export async function endOrphan(dataDirectory: string): Promise<void> {
  const lockFile = join(dataDirectory, "postmaster.pid");
  const text = await readFile(lockFile, "utf8").catch(() => undefined);
  const pid = Number(text?.split("\n")[0]);
  if (!pid) return;
  const isServer = async () => (await findCommandLine(pid))?.includes(`postgres -D ${dataDirectory} `) ?? false;
  for (const signal of ["SIGINT", "SIGQUIT", "SIGKILL"] as const) {
    if (!await isServer()) break;
    try {
      process.kill(pid, signal);
    } catch {
      break; // gone meanwhile
    }
    for (let waited = 0; waited < 5_000 && await isServer(); waited += 50) await sleep(50);
  }
  await rm(lockFile, { force: true });
}

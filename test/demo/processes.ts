import { readdirSync, readFileSync } from "node:fs";

/** A process, told apart from a later one with the same id. */
export interface Process {
  readonly pid: number;
  readonly startedAt: string;
  readonly commandLine: string;
}

/** All that were started by this one, and by those, as Linux sees them now. */
export function listDescendants(pid: number): readonly Process[] {
  const all = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((name) => readProcess(Number(name)) ?? []);
  const found: Process[] = [];
  const parents = [pid];
  for (const parent of parents) {
    for (const each of all.filter(({ parentPid }) => parentPid === parent)) {
      parents.push(each.pid);
      found.push(each);
    }
  }
  return found;
}

/** Whether it still runs; one that only waits for its parent to notice its end does not. */
export function isRunning({ pid, startedAt }: Process): boolean {
  return readProcess(pid)?.startedAt === startedAt;
}

function readProcess(pid: number): (Process & { readonly parentPid: number }) | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, "utf8");
    const [state, parentPid, ...rest] = status.slice(status.lastIndexOf(")") + 2).split(" ");
    if (state === "Z" || state === "X") return undefined;
    const commandLine = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
    return { pid, parentPid: Number(parentPid), startedAt: rest[17] ?? "", commandLine };
  } catch {
    return undefined;
  }
}

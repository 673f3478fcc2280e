import { execFileSync } from "node:child_process";
import { stat } from "node:fs/promises";
import { dirname } from "node:path";

/** Who runs PostgreSQL. Empty: whoever runs this process. */
export interface Account {
  readonly uid?: number;
  readonly gid?: number;
}

/** Only root needs it, and only for what has to lie outside of directories that are closed to all others. */
export const systemDirectory = "/var/lib/sluice";

/**
 * PostgreSQL refuses to run as root, so root lets another account run it: the one to which the data belong, or else `postgres`,
 * or else `nobody`, which every machine has.
 */
export async function chooseAccount(dataDirectory: string): Promise<Account> {
  if (process.getuid?.() !== 0) return {};
  const owner = await stat(dataDirectory).catch(() => undefined);
  if (owner && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid };
  return findAccount("postgres") ?? findAccount("nobody") ?? {};
}

function findAccount(name: string): Account | undefined {
  try {
    const [uid, gid] = ["-u", "-g"].map((flag) =>
      Number(execFileSync("id", [flag, name], { stdio: ["ignore", "pipe", "ignore"] }))
    );
    return uid !== undefined && gid !== undefined ? { uid, gid } : undefined;
  } catch {
    return undefined;
  }
}

/** Whether every account may enter all directories above the path. */
export async function isReachable(path: string): Promise<boolean> {
  for (let directory = dirname(path); directory !== dirname(directory); directory = dirname(directory)) {
    const { mode } = await stat(directory);
    if ((mode & 0o001) === 0) return false;
  }
  return true;
}

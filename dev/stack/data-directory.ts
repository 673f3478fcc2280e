import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isReachable, systemDirectory } from "../postgres/account.ts";

/**
 * PostgreSQL's data are among the state. Only where root runs the stack in a directory that is closed to others, such as /root,
 * they can't be: the account that runs PostgreSQL for root couldn't get there.
 */
export async function dataDirectoryOf(stateDirectory: string): Promise<string> {
  const directory = join(stateDirectory, "postgres");
  await mkdir(stateDirectory, { recursive: true });
  if (process.getuid?.() !== 0) return directory;
  await chmod(stateDirectory, 0o711);
  if (await isReachable(directory)) return directory;
  const id = createHash("sha256").update(stateDirectory).digest("hex").slice(0, 12);
  const elsewhere = join(systemDirectory, `state-${id}`);
  await mkdir(elsewhere, { recursive: true, mode: 0o755 });
  return join(elsewhere, "postgres");
}

/** A new directory for state that is thrown away, where the account that runs PostgreSQL gets to. */
export async function createTemporaryState(): Promise<string> {
  const isClosed = process.getuid?.() === 0 && !await isReachable(join(tmpdir(), "state"));
  return await mkdtemp(join(isClosed ? "/var/tmp" : tmpdir(), "sluice-demo-"));
}

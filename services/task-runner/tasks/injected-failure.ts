import { createHash } from "node:crypto";
import type { TaskContext } from "../task-handler.ts";

/** Throws with the given probability, decided by a hash of job, stage, index and attempt: the same job fails alike each time. */
export function injectFailure(rate: number, { jobId, stage, index, attempt }: TaskContext): void {
  const hash = createHash("sha256").update(`${jobId}/${stage}/${index}/${attempt}`).digest();
  if (hash.readUIntBE(0, 6) / 2 ** 48 < rate) throw new Error(`failure_rate ${rate} struck attempt ${attempt}`);
}

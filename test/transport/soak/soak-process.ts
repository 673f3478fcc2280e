import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import * as v from "valibot";

/** What a process holds after its garbage was collected. */
export const Memory = v.object({
  /** JavaScript's heap, and buffers beside it. */
  usedBytes: v.number(),
  residentBytes: v.number(),
});
export type Memory = v.InferOutput<typeof Memory>;

/** A Node program of its own that tells its memory. */
export interface SoakProcess {
  readonly child: ChildProcess;
  /** What it wrote so far, of stdout and stderr. */
  output(): string;
  memory(): Promise<Memory>;
  end(): Promise<void>;
}

const reporter = new URL("report-memory.ts", import.meta.url).href;
const answerMs = 30_000;

export function startSoakProcess(script: string, args: readonly string[], flags: readonly string[] = []): SoakProcess {
  const child = spawn(process.execPath, [...flags, "--expose-gc", "--import", reporter, script, ...args], {
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
  process.once("exit", () => child.kill("SIGKILL"));
  let output = "";
  child.stdout?.on("data", (chunk) => output += chunk);
  child.stderr?.on("data", (chunk) => output += chunk);
  const ended = once(child, "exit");
  return {
    child,
    output: () => output,
    async memory() {
      child.send("memory");
      for (const signal = AbortSignal.timeout(answerMs);;) {
        const [message] = await once(child, "message", { signal });
        const parsed = v.safeParse(v.object({ memory: Memory }), message);
        if (parsed.success) return parsed.output.memory;
      }
    },
    async end() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

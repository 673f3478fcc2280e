import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { heapFlags } from "../../shared/heap.ts";
import type { RoleName } from "../../shared/roles.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** One process of a role, as an operator would start it. */
export interface RoleProcess {
  readonly role: RoleName;
  /** As it calls itself: sender of batches, owner of stages, runner of tasks. */
  readonly id: string;
  readonly port: number;
  readonly pid: number;
  /** The lines it logged, newest last. */
  readonly lines: readonly string[];
  signal(signal: NodeJS.Signals): void;
  /** Sends the signal and waits for the end; resolves with the exit code, or null if the signal ended it. */
  end(signal: NodeJS.Signals): Promise<number | null>;
}

/** Starts a role on a free port and waits until it says that it runs. Rejects with its last lines if it doesn't. */
export async function startRole(role: RoleName, environment: Record<string, string>): Promise<RoleProcess> {
  const child = spawn(process.execPath, [...heapFlags, `services/${role}/main.ts`], {
    cwd: root,
    env: { PATH: process.env.PATH, PORT: "0", LOG_LEVEL: "info", ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const killWithUs = () => void child.kill("SIGKILL");
  process.setMaxListeners(100); // one for each process of a test
  process.once("exit", killWithUs);
  child.once("exit", () => process.off("exit", killWithUs));
  const lines: string[] = [];
  const { id, port } = await whenRunning(child, role, lines);
  return {
    role,
    id,
    port,
    pid: child.pid ?? 0,
    lines,
    signal: (signal) => void child.kill(signal),
    async end(signal) {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
      const exit = once(child, "exit");
      child.kill(signal);
      const [code] = await exit;
      return typeof code === "number" ? code : null;
    },
  };
}

async function whenRunning(child: ChildProcess, role: string, lines: string[]): Promise<{ id: string; port: number }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ id: string; port: number }>();
  for (const stream of [child.stdout, child.stderr]) {
    if (!stream) continue;
    createInterface(stream).on("line", (line) => {
      lines.push(line);
      if (lines.length > 500) lines.shift();
      if (!line.includes(`"${role} runs"`)) return;
      const { id, port } = JSON.parse(line);
      resolve({ id, port });
    });
  }
  child.once("exit", (code, signal) => reject(new Error(`${role} ended with ${code ?? signal}: ${lines.slice(-20).join("\n")}`)));
  return await promise;
}

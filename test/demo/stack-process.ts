import getPort from "get-port";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { isRunning, listDescendants, type Process } from "./processes.ts";

/** `npm run dev`, `npm run demo` or `npm run compare`, as a process of its own. */
export interface StackProcess {
  readonly child: ChildProcess;
  output(): string;
  /** Resolves when its output contains the text; rejects if that takes longer than `withinMs`, by default 40 s. */
  says(text: string, withinMs?: number): Promise<void>;
  descendants(): readonly Process[];
  /** Its exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;
}

const waitMs = 40_000;

export function startStackProcess(
  script: "dev" | "demo" | "compare",
  environment: Readonly<Record<string, string>>,
  args: readonly string[] = [],
): StackProcess {
  const child = spawn(process.execPath, [`dev/${script}.ts`, ...args], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  process.once("exit", () => child.kill("SIGKILL"));
  let output = "";
  child.stdout?.on("data", (chunk) => output += chunk);
  child.stderr?.on("data", (chunk) => output += chunk);
  return {
    child,
    output: () => output,
    says: (text, withinMs) => until(() => output.includes(text), () => `“${text}” was not said: ${output}`, withinMs),
    descendants: () => listDescendants(child.pid ?? 0),
    ended: once(child, "exit").then(([code, signal]) => signal ?? code),
  };
}

/** Ports for `npm run dev` that nothing else uses. */
export async function createDevEnvironment(stateDirectory: string): Promise<Record<string, string>> {
  const names = ["API", "ORCHESTRATOR", "BULLMQ_RUNNER", "STORAGE_QUEUE_RUNNER", "POSTGRES", "BLOB", "QUEUE"];
  const ports = await Promise.all(names.map(async (name) => [`SLUICE_${name}_PORT`, String(await getPort())] as const));
  return { SLUICE_STATE_DIR: stateDirectory, ...Object.fromEntries(ports) };
}

export async function untilGone(processes: readonly Process[]): Promise<void> {
  const running = () => processes.filter(isRunning).map(({ pid, commandLine }) => `${pid} ${commandLine}`);
  await until(() => running().length === 0, () => `still running: ${running().join("\n")}`);
}

export async function until(isTrue: () => boolean | Promise<boolean>, describe: () => string, withinMs = waitMs): Promise<void> {
  for (const giveUpAt = Date.now() + withinMs; !await isTrue();) {
    if (Date.now() > giveUpAt) throw new Error(describe());
    await sleep(50);
  }
}

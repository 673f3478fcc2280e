import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import { type LogFile, openLogFile } from "./log-file.ts";

/** A program for Node that should run for as long as the stack does. */
export interface Program {
  /** Of its log, too. */
  readonly name: string;
  readonly script: string;
  readonly args?: readonly string[];
  /** For Node itself. */
  readonly flags?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Its alarming lines are for the terminal; what others say is only in their log. */
  readonly speaks: boolean;
  /** It looks after its stdin itself. */
  readonly unleashed?: boolean;
  /** What it answers when it is ready, or a line that it writes then. */
  readonly readiness: { readonly probe: () => Promise<boolean> } | { readonly line: string };
}

export interface Supervised {
  readonly name: string;
  readonly log: LogFile;
  /** Rejects if it isn't ready in time, or died three times before. */
  whenReady(signal: AbortSignal): Promise<void>;
  /** SIGTERM, and SIGKILL if that takes longer than the grace. */
  stop(graceMs: number): Promise<void>;
}

export interface SupervisorOptions {
  readonly logDirectory: string;
  /** For the terminal. */
  readonly say: (line: string) => void;
}

const readyMs = 60_000;
const firstPauseMs = 250;
const maxPauseMs = 10_000;
/** Who lived so long begins anew with the first pause. */
const healthyMs = 30_000;
const leash = new URL("./leash.ts", import.meta.url).href;

/** Runs the program, and again when it dies, with growing pauses; says so. */
export function supervise(program: Program, { logDirectory, say }: SupervisorOptions): Supervised {
  const { name } = program;
  const stopping = new AbortController();
  const { readiness } = program;
  const log = openLogFile(join(logDirectory, `${name}.log`), {
    onLine(line) {
      if ("line" in readiness) saidReady ||= line.includes(readiness.line);
    },
    onAlarm(text) {
      if (program.speaks && !stopping.signal.aborted) say(`${name}: ${text}`);
    },
  });
  let child: ChildProcess | undefined;
  let deaths = 0;
  let wasReady = false;
  let saidReady = false;
  process.setMaxListeners(50); // one for each program of a stack
  process.once("exit", () => child?.kill("SIGKILL"));
  const done = run();

  async function run(): Promise<void> {
    let pauseMs = firstPauseMs;
    while (!stopping.signal.aborted) {
      const startedAt = performance.now();
      saidReady = false;
      child = start(program, log);
      if (deaths > 0) void sayWhenBack(child.pid);
      const end = await whenEnded(child);
      if (stopping.signal.aborted) return;
      deaths++;
      if (performance.now() - startedAt > healthyMs) pauseMs = firstPauseMs;
      say(`${name} (process ${child.pid}) ended with ${end}; it is started again in ${pauseMs / 1000} s`);
      await sleep(pauseMs, undefined, { signal: stopping.signal }).catch(() => {});
      pauseMs = Math.min(pauseMs * 2, maxPauseMs);
    }
  }

  async function sayWhenBack(pid: number | undefined): Promise<void> {
    while (child?.pid === pid && !stopping.signal.aborted) {
      if (await isReady()) return say(`${name} runs again (process ${pid})`);
      await sleep(100);
    }
  }

  async function isReady(): Promise<boolean> {
    return "line" in readiness ? saidReady : await readiness.probe().catch(() => false);
  }

  return {
    name,
    log,
    async whenReady(signal) {
      const giveUpAt = performance.now() + readyMs;
      while (!wasReady) {
        signal.throwIfAborted();
        wasReady = await isReady();
        if (wasReady) return;
        if (deaths >= 3) throw new Error(`${name} can't be started`);
        if (performance.now() > giveUpAt) throw new Error(`${name} was not ready within ${readyMs / 1000} s`);
        await sleep(50);
      }
    },
    async stop(graceMs) {
      stopping.abort();
      child?.kill("SIGTERM");
      const timer = setTimeout(() => child?.kill("SIGKILL"), graceMs);
      await done;
      clearTimeout(timer);
      await log.close();
    },
  };
}

function start({ script, args = [], flags = [], environment = {}, unleashed }: Program, log: LogFile): ChildProcess {
  const child = spawn(process.execPath, [...flags, ...(unleashed ? [] : ["--import", leash]), script, ...args], {
    cwd: fileURLToPath(new URL("../..", import.meta.url)),
    env: { PATH: process.env.PATH, HOME: process.env.HOME, TZ: process.env.TZ, ...environment },
    stdio: ["pipe", "pipe", "pipe"],
    detached: true, // Ctrl-C in the terminal is for the stack alone, which then ends its processes in order
  });
  child.stdin.on("error", () => {});
  log.follow(child.stdout);
  log.follow(child.stderr);
  return child;
}

async function whenEnded(child: ChildProcess): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  child.once("error", (error) => resolve(error.message));
  child.once("exit", (code, signal) => resolve(signal ?? `code ${code}`));
  return await promise;
}

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { heapFlags } from "../../shared/heap.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
/** As a liveness probe would have it. */
const unresponsiveMs = 3_000;

/** Keeps a process running as Kubernetes would: starts it again when it dies, kills it when it doesn't answer `/livez` any more. */
export function keepRunning(
  script: string,
  environment: Record<string, string>,
): { readonly deaths: number; stop(): Promise<void> } {
  const stopping = new AbortController();
  let child: ChildProcess | undefined;
  let deaths = 0;
  const killWithUs = () => void child?.kill("SIGKILL");
  process.setMaxListeners(100);
  process.once("exit", killWithUs);

  async function watch(started: ChildProcess, port: number): Promise<void> {
    let answeredAt = performance.now();
    while (started.exitCode === null && started.signalCode === null && !stopping.signal.aborted) {
      const signal = AbortSignal.timeout(1_000);
      const answered = await fetch(`http://127.0.0.1:${port}/livez`, { signal }).then((response) => response.ok, () => false);
      if (answered) answeredAt = performance.now();
      else if (performance.now() - answeredAt > unresponsiveMs) started.kill("SIGKILL");
      await sleep(250);
    }
  }

  const running = (async () => {
    while (!stopping.signal.aborted) {
      const started = child = spawn(process.execPath, [...heapFlags, script], {
        cwd: root,
        env: { PATH: process.env.PATH, ...environment },
        stdio: ["ignore", "pipe", "ignore"],
      });
      const exit = once(started, "exit");
      createInterface(started.stdout).on("line", (line) => {
        if (line.startsWith('{"port"')) void watch(started, JSON.parse(line).port);
      });
      await exit;
      if (!stopping.signal.aborted) deaths += 1;
    }
  })();

  return {
    get deaths() {
      return deaths;
    },
    async stop() {
      stopping.abort();
      child?.kill("SIGKILL");
      await running;
      process.off("exit", killWithUs);
    },
  };
}

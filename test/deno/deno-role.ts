import getPort from "get-port";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

export interface DenoRole {
  readonly url: string;
  output(): string;
  /** Lines that tell of a warning, an error, or a permission that is missing. */
  alarms(): readonly string[];
  stop(): Promise<void>;
}

/** `deno task <role>`, as its own process, with nothing in its environment but this; resolves when it is ready. */
export async function startDenoRole(role: string, environment: Readonly<Record<string, string>>): Promise<DenoRole> {
  const port = await getPort();
  const url = `http://127.0.0.1:${port}`;
  const child = spawn("node_modules/.bin/deno", ["task", role], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, NO_COLOR: "1", GRACE_MS: "2000", ...environment, PORT: String(port) },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true, // a group of its own: the task and what it starts end together
  });
  const killGroup = (signal: NodeJS.Signals) => {
    try {
      if (child.pid) process.kill(-child.pid, signal);
    } catch {
      // it is gone
    }
  };
  process.once("exit", () => killGroup("SIGKILL"));
  let output = "";
  child.stdout.on("data", (chunk) => output += chunk);
  child.stderr.on("data", (chunk) => output += chunk);
  const ended = once(child, "close");

  for (const giveUpAt = Date.now() + 30_000;;) {
    if (await fetch(`${url}/readyz`).then((response) => response.ok, () => false)) break;
    if (child.exitCode !== null || Date.now() > giveUpAt) {
      killGroup("SIGKILL");
      throw new Error(`deno task ${role} did not get ready: ${output}`);
    }
    await sleep(50);
  }
  return {
    url,
    output: () => output,
    alarms: () => output.split("\n").filter((line) => /"level":[456]0|NotCapable|\berror\b/.test(line)),
    async stop() {
      killGroup("SIGTERM");
      const timer = setTimeout(() => killGroup("SIGKILL"), 10_000);
      await ended;
      clearTimeout(timer);
    },
  };
}

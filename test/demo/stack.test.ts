import { existsSync } from "node:fs";
import { chmod, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createApiClient } from "../../dev/demo/api-client.ts";
import { createDevEnvironment, type StackProcess, startStackProcess, until, untilGone } from "./stack-process.ts";

// Processes are watched where Linux shows them.
const onLinux = test.runIf(existsSync("/proc/self/stat"));
const roles = [
  "services/api",
  "services/orchestrator",
  "services/task-runner",
  "services/task-runner",
  "services/poison-handler",
];
const servers = ["azurite/dist/src/blob", "azurite/dist/src/queue", "dev/postgres/keeper"];

let directory: string;
let started: StackProcess[];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-stack-"));
  await chmod(directory, 0o711); // as root, another account runs PostgreSQL
  started = [];
});
afterEach(async () => {
  for (const { child } of started) child.kill("SIGKILL");
  await rm(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 });
});

function start(...args: Parameters<typeof startStackProcess>): StackProcess {
  const stack = startStackProcess(...args);
  started.push(stack);
  return stack;
}

function find(stack: StackProcess, script: string): number {
  return stack.descendants().find(({ commandLine }) => commandLine.includes(script))?.pid ?? 0;
}

onLinux("npm run dev: what is killed comes back, what was started ends, and what was done is kept", async () => {
  const environment = await createDevEnvironment(join(directory, "state"));
  const client = createApiClient(`http://127.0.0.1:${environment["SLUICE_API_PORT"]}`, AbortSignal.timeout(110_000));

  const first = start("dev", environment);
  await first.says("Sluice runs");
  for (const script of [...roles, ...servers]) {
    expect(first.descendants().map(({ commandLine }) => commandLine)).toContainEqual(expect.stringContaining(script));
  }
  for (const [script, name] of [["services/orchestrator", "orchestrator"], ["dev/postgres/keeper", "postgres"]] as const) {
    process.kill(find(first, script), "SIGKILL");
    await first.says(`${name} runs again`);
  }
  let jobId = "";
  await until(async () => {
    jobId = await client.submit("hello_world", { n: 3 }, "storage_queue").catch(() => ""); // 503 for a moment
    return jobId !== "";
  }, () => "no job was accepted");
  expect((await client.whenEnded(jobId, () => {})).status).toBe("completed");
  const firstProcesses = first.descendants();
  first.child.kill("SIGINT");
  first.child.kill("SIGINT"); // npm's echo
  expect(await first.ended).toBe(0);
  await untilGone(firstProcesses);

  const second = start("dev", environment);
  await second.says("Sluice runs");
  expect((await client.getJob(jobId)).status).toBe("completed");
  const third = start("dev", environment);
  expect(await third.ended).toBe(1);
  expect(third.output()).toContain("another stack");
  const secondProcesses = second.descendants();
  second.child.kill("SIGKILL");
  process.kill(find(second, "dev/postgres/keeper") || secondProcesses.find(isKeeper)?.pid || 0, "SIGKILL");
  const isServer = ({ commandLine }: { commandLine: string }) =>
    commandLine.startsWith("postgres") || commandLine.includes("/bin/postgres");
  await untilGone(secondProcesses.filter((each) => !isServer(each)));

  const fourth = start("dev", environment); // PostgreSQL was left behind, as both were killed that could have ended it
  await fourth.says("Sluice runs");
  expect((await client.getJob(jobId)).status).toBe("completed");
  const fourthProcesses = fourth.descendants();
  fourth.child.kill("SIGKILL");
  await untilGone([...secondProcesses, ...fourthProcesses]);
});

function isKeeper({ commandLine }: { commandLine: string }): boolean {
  return commandLine.includes("dev/postgres/keeper");
}

onLinux.each(
  [
    ["SIGINT", "hello_world on bullmq"],
    ["SIGKILL", "files uploaded"],
  ] as const,
)("npm run demo leaves neither processes nor files after %s", async (signal, moment) => {
  const demo = start("demo", { TMPDIR: directory });
  await demo.says(moment);
  const processes = demo.descendants();
  expect(processes.length).toBeGreaterThan(roles.length + servers.length);
  demo.child.kill(signal);
  expect(await demo.ended).toBe(signal === "SIGINT" ? 130 : signal);
  await untilGone(processes);
  await until(async () => (await readdir(directory)).length === 0, () => `files are left in ${directory}`);
});

import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { ServiceBusClient } from "@azure/service-bus";
import { parseCommandLine } from "../../dev/service-bus-broker/command-line.ts";
import { rm } from "node:fs/promises";
import { receiveOne } from "./test-namespace.ts";

const file = join(tmpdir(), `sluice-queues-${process.pid}.json`);
afterAll(() => rm(file, { force: true }));

function start(...args: string[]) {
  const child = spawn(process.execPath, ["dev/service-bus-broker/main.ts", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (chunk) => output += chunk);
  child.stderr.on("data", (chunk) => output += chunk);
  const ended = once(child, "close");
  return {
    output: () => output,
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    async end() {
      const [code] = await ended;
      return code;
    },
  };
}

test.each(["SIGTERM", "SIGINT"] as const)(
  "it prints its connection strings, serves, and ends cleanly with %s",
  async (signal) => {
    await writeFile(file, JSON.stringify({ tasks: { lockDurationMs: 5_000 } }));
    const broker = start("--port", "0", "--admin-port", "0", "--queues", file, "--queue", "other");
    try {
      await expect.poll(broker.output, { timeout: 20_000 }).toContain("queues          tasks, other");
      const [, connectionString = ""] = /AMQP\s+(\S+)/.exec(broker.output()) ?? [];
      const client = new ServiceBusClient(connectionString);
      await client.createSender("tasks").sendMessages({ body: "hello" });
      expect((await receiveOne(client.createReceiver("tasks"))).body).toBe("hello");
      await client.close();
    } finally {
      broker.kill(signal);
    }
    expect(await broker.end()).toBe(0);
    expect(broker.output()).toContain("has ended");
  },
);

test("a port that is taken is said to be, with exit code 1", async () => {
  const first = start("--port", "0", "--admin-port", "0");
  await expect.poll(first.output, { timeout: 20_000 }).toContain("AMQP");
  const [, port = ""] = /localhost:(\d+)/.exec(first.output()) ?? [];
  const second = start("--port", port, "--admin-port", "0");
  expect(await second.end()).toBe(1);
  expect(second.output()).toMatch(/did not start: .*EADDRINUSE/);
  first.kill("SIGTERM");
  await first.end();
});

test("a wrong argument is named, with the usage and exit code 2", async () => {
  const broker = start("--port", "many");
  expect(await broker.end()).toBe(2);
  expect(broker.output()).toMatch(/--port: must be a number[\s\S]*npm run service-bus-broker/);
});

test.each([
  [["--port", "99999"], "--port: "],
  [["--tier", "premium"], "--tier: must be basic or standard"],
  [["--colour"], "--colour"],
  [["--queues", "/nowhere.json"], "--queues /nowhere.json can't be read"],
])("%j is refused", (args, message) => {
  expect(() => parseCommandLine(args)).toThrow(message);
});

test("a setting that isn't one is named", async () => {
  await writeFile(file, JSON.stringify({ tasks: { lockDuration: 5_000 } }));
  expect(() => parseCommandLine(["--queues", file])).toThrow(`--queues ${file}: tasks`);
});

test("without arguments it has the ports of Microsoft's emulator, on the loopback address", () => {
  expect(parseCommandLine([])).toEqual({ port: 5_672, adminPort: 5_300, host: "127.0.0.1", tier: "standard", queues: {} });
});

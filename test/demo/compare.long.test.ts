import { existsSync } from "node:fs";
import { chmod, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BlobServiceClient } from "@azure/storage-blob";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startServiceBusBroker } from "../../dev/service-bus-broker/start.ts";
import { startAzurite } from "../support/azurite.ts";
import { collect } from "../support/collect.ts";
import { startStackProcess, untilGone } from "./stack-process.ts";

// Processes are watched where Linux shows them.
const onLinux = test.runIf(existsSync("/proc/self/stat"));

const patienceMs = 300_000;

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-compare-"));
  await chmod(directory, 0o711); // as root, another account runs PostgreSQL
});
afterEach(() => rm(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 }));

onLinux("npm run compare: both pipelines do the work, and a page says how; neither processes nor files are left", async () => {
  const output = join(directory, "results.md");
  const compare = startStackProcess("compare", { TMPDIR: directory }, ["--quick", "--only=hello_world", `--output=${output}`]);
  await compare.says("on storage_queue", patienceMs / 2);
  const processes = compare.descendants();
  expect(await compare.ended, compare.output()).toBe(0);
  expect(compare.output()).toContain("Every outcome is right");
  for (const pipeline of ["storage_queue", "service_bus"]) {
    for (const perMessage of [1, 10]) {
      expect(compare.output()).toMatch(new RegExp(`hello_world, n = 100 +${perMessage} +${pipeline} \\(emulator\\) +200 `));
    }
  }
  expect(await readFile(output, "utf8")).toContain("**Emulator: no broker here is Azure's.**");
  await untilGone(processes);
  expect(await readdir(directory)).toEqual(["results.md"]);
}, patienceMs);

onLinux(
  "npm run compare -- --azure: uses the brokers that the environment names, and leaves them without its files",
  async () => {
    const [azurite, broker] = await Promise.all([startAzurite(), startServiceBusBroker()]);
    try {
      const compare = startStackProcess("compare", {
        TMPDIR: directory,
        AZURE_STORAGE_CONNECTION_STRING: azurite.connectionString,
        AZURE_SERVICE_BUS_CONNECTION_STRING: broker.connectionString,
        SERVICE_BUS_ADMIN_CONNECTION_STRING: broker.adminConnectionString,
      }, ["--azure", "--quick", "--only=list_container"]);
      await compare.says("on storage_queue", patienceMs / 2);
      expect(compare.descendants().filter(({ commandLine }) => /azurite|service-bus-broker/.test(commandLine))).toEqual([]);
      expect(await compare.ended, compare.output()).toBe(0);
      expect(compare.output()).toContain("Every outcome is right");
      const containers = await collect(BlobServiceClient.fromConnectionString(azurite.connectionString).listContainers());
      expect(containers.map(({ name }) => name)).toEqual(["sluice-claim-checks"]);
    } finally {
      await Promise.all([azurite.stop(), broker.stop()]);
    }
  },
);

onLinux.each([
  ["--runs=0", /runs|>=1/i],
  ["--fast", /--fast/],
  ["--azure", /AZURE_SERVICE_BUS_CONNECTION_STRING/],
])("npm run compare -- %s is refused before anything starts", async (argument, reason) => {
  const compare = startStackProcess("compare", { TMPDIR: directory }, [argument]);
  expect(await compare.ended).toBe(2);
  expect(compare.output()).toMatch(reason);
  expect(await readdir(directory)).toEqual([]);
});

import { BlobServiceClient } from "@azure/storage-blob";
import { QueueServiceClient } from "@azure/storage-queue";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { createBlobTarget, createStorageQueueTarget } from "../../shared/provision/azure-storage.ts";
import { type Mode, provision } from "../../shared/provision/provision.ts";
import { openStorageQueueTransport } from "../../shared/transport/storage-queue.ts";
import { type Azurite, startAzurite } from "../support/azurite.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";

const queues = ["geospatial-jobs", "geospatial-tasks"];
const withPoison = ["geospatial-jobs", "geospatial-jobs-poison", "geospatial-tasks", "geospatial-tasks-poison"];
const container = "sluice-claim-checks";

let azurite: Azurite;
beforeAll(async () => {
  azurite = await startAzurite();
});
afterAll(() => azurite.stop());
beforeEach(async () => {
  for (const name of await listQueues()) await queueService().deleteQueue(name);
  await blobService().getContainerClient(container).deleteIfExists();
});

const queueService = () => QueueServiceClient.fromConnectionString(azurite.connectionString);
const blobService = () => BlobServiceClient.fromConnectionString(azurite.connectionString);

async function listQueues(): Promise<string[]> {
  const names = [];
  for await (const { name } of queueService().listQueues()) names.push(name);
  return names.sort();
}

function run(mode: Mode, connectionString = azurite.connectionString) {
  return provision([
    createStorageQueueTarget({ connectionString }, queues),
    createBlobTarget({ connectionString }, container),
  ], mode);
}

test("queues, the poison queue of each, and the container of claim checks are created once; a check creates nothing", async () => {
  expect((await run("check")).map(({ outcome }) => outcome)).toEqual(Array(5).fill("missing"));
  expect(await listQueues()).toEqual([]);
  const findings = await run("create");
  expect(findings.map(({ resource }) => resource)).toEqual([...withPoison, container]);
  expect(findings.map(({ outcome }) => outcome)).toEqual(Array(5).fill("created"));
  expect(await listQueues()).toEqual(withPoison);
  expect(await blobService().getContainerClient(container).exists()).toBe(true);
  for (const mode of ["create", "check", "update"] as const) {
    expect((await run(mode)).map(({ outcome }) => outcome)).toEqual(Array(5).fill("as wanted"));
  }
  const transport = openStorageQueueTransport(azurite);
  await transport.send("geospatial-tasks", [{ messageId: "a", body: "{}" }]);
  expect(await transport.counts("geospatial-tasks")).toEqual({ active: 1, deadLettered: 0 });
  await transport.close();
});

test("five at once are harmless", async () => {
  const runs = await Promise.all(Array.from({ length: 5 }, () => run("create")));
  for (const { outcome } of runs.flat()) expect(["created", "as wanted"]).toContain(outcome);
  expect(await listQueues()).toEqual(withPoison);
});

test("a single queue that is missing is found", async () => {
  await run("create");
  await queueService().deleteQueue("geospatial-tasks-poison");
  const missing = (await run("check")).filter(({ outcome }) => outcome !== "as wanted");
  expect(missing).toMatchObject([{ target: "storage_queue", resource: "geospatial-tasks-poison", outcome: "missing" }]);
});

test("a wrong key is named, in one line and without the key", async () => {
  const findings = await run("create", azurite.connectionString.replace("AccountKey=Eby8", "AccountKey=Xby8"));
  expect(findings).toHaveLength(5);
  for (const { outcome, cause } of findings) {
    expect(outcome).toBe("failed");
    expect(cause).toMatch(/^127\.0\.0\.1:\d+: .*\bkey\b.* \(403, Auth\w+\)$/);
    expect(cause).not.toContain("Xby8");
  }
});

test("storage that is away is named with its host", async () => {
  const away = azurite.connectionString.replace(/127\.0\.0\.1:\d+/g, "127.0.0.1:1");
  for (const { cause } of await run("create", away)) expect(cause).toMatch(/^127\.0\.0\.1:1: the connection was refused/);
});

test("a right that is missing on one queue, or on the container, is named; the others go on", async () => {
  const denied = { status: 403, code: "AuthorizationPermissionMismatch" };
  const [queueProxy, blobProxy] = await Promise.all([startFaultProxy(azurite.queueUrl), startFaultProxy(azurite.blobUrl)]);
  queueProxy.setFault((_, line) => line.includes("/geospatial-tasks?") ? denied : undefined);
  blobProxy.setFault((_, line) => line.startsWith("PUT") ? denied : undefined);
  try {
    const findings = await run(
      "create",
      azurite.connectionString.replace(azurite.queueUrl, queueProxy.url).replace(azurite.blobUrl, blobProxy.url),
    );
    const causes = findings.filter(({ outcome }) => outcome === "failed");
    expect(causes).toMatchObject([
      {
        resource: "geospatial-tasks",
        cause: expect.stringContaining("the right is missing: the role Storage Queue Data Contributor"),
      },
      { resource: container, cause: expect.stringContaining("the right is missing: the role Storage Blob Data Contributor") },
    ]);
    expect(await listQueues()).toEqual(withPoison.filter((name) => name !== "geospatial-tasks"));
  } finally {
    await Promise.all([queueProxy.stop(), blobProxy.stop()]);
  }
});

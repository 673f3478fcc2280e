import { BlobServiceClient, type ContainerClient } from "@azure/storage-blob";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import {
  type Containers,
  type ContainersOptions,
  createContainers,
  type ListedFile,
} from "../../services/task-runner/containers.ts";
import { type Azurite, startAzurite } from "../support/azurite.ts";
import { type Fault, type FaultProxy, startFaultProxy } from "../support/fault-proxy.ts";

let azurite: Azurite;
let proxy: FaultProxy;
let client: BlobServiceClient;

/** 300 files in `many`, six pages of fifty. */
const manyNames = Array.from({ length: 300 }, (_, n) => `folder-${String(n % 7)}/file ${String(n).padStart(3, "0")}.tif`).sort();

beforeAll(async () => {
  azurite = await startAzurite();
  proxy = await startFaultProxy(azurite.blobUrl);
  client = BlobServiceClient.fromConnectionString(azurite.connectionString);
  await upload("many", manyNames);
});
afterAll(async () => {
  await proxy?.stop();
  await azurite?.stop();
});
beforeEach(() => proxy.setFault(() => undefined));

async function upload(container: string, names: readonly string[]): Promise<ContainerClient> {
  const target = client.getContainerClient(container);
  await target.create();
  for (let at = 0; at < names.length; at += 20) {
    await Promise.all(
      names.slice(at, at + 20).map((name) => target.getBlockBlobClient(name).upload(name, Buffer.byteLength(name))),
    );
  }
  return target;
}

function open(options: ContainersOptions = {}): Containers {
  return createContainers(
    { connectionString: azurite.connectionString.replace(azurite.blobUrl, proxy.url) },
    { pageSize: 50, backoffMs: 1, breakAfter: 1_000, ...options },
  );
}

const never = new AbortController().signal;

async function listAll(containers: Containers, container: string, signal = never): Promise<ListedFile[]> {
  const files: ListedFile[] = [];
  for await (const file of containers.list(container, { prefix: "", signal })) files.push(file);
  return files;
}

/** How many requests `run` made. */
async function requestsOf(run: () => Promise<unknown>): Promise<number> {
  const before = proxy.requests.length;
  await run();
  return proxy.requests.length - before;
}

const faults: readonly Fault[] = [
  "drop",
  "drop-midway",
  "lose-answer",
  { status: 503, code: "ServerBusy" },
  { status: 429 },
  { status: 500 },
  { status: 408 },
];

test.each(faults)(
  "a listing goes on at its page, without gap or repetition, when two of three requests meet %j",
  async (fault) => {
    proxy.setFault((n) => (n % 3 === 0 ? undefined : fault));
    const requests = await requestsOf(async () => {
      expect((await listAll(open(), "many")).map(({ name }) => name)).toEqual(manyNames);
    });
    expect(requests).toBe(3 * (manyNames.length / 50));
  },
);

test("an answer that doesn't come is given up after the time-out, and asked for again", async () => {
  proxy.setFault((n) => (n === 2 ? "hang" : undefined));
  const files = await listAll(open({ tryTimeoutMs: 500 }), "many");
  expect(files.map(({ name }) => name)).toEqual(manyNames);
});

test("after its last try a call fails with what happened, and may be retried later", async () => {
  proxy.setFault(() => ({ status: 503, code: "ServerBusy" }));
  const containers = open({ maxTries: 3 });
  expect(
    await requestsOf(async () => {
      await expect(listAll(containers, "many")).rejects.toMatchObject({
        name: "StorageError",
        message: "could not list container many: storage answered 503 (ServerBusy)",
      });
    }),
  ).toBe(3);
});

test("Retry-After is waited for; one that is too long ends the call", async () => {
  proxy.setFault((n) => (n === 1 ? { status: 503, headers: { "retry-after": "1" } } : undefined));
  const start = performance.now();
  await open().getProperties("many", manyNames[0] ?? "", never);
  expect(performance.now() - start).toBeGreaterThanOrEqual(990);

  proxy.setFault(() => ({ status: 429, headers: { "retry-after": new Date(Date.now() + 3_600_000).toUTCString() } }));
  expect(
    await requestsOf(async () => {
      await expect(open().getProperties("many", manyNames[0] ?? "", never)).rejects.toThrow("storage answered 429");
    }),
  ).toBe(1);
});

test("the circuit opens after failures in a row, spares storage, and closes when a probe succeeds", async () => {
  const containers = open({ maxTries: 1, breakAfter: 3, halfOpenAfterMs: 300 });
  const read = () => containers.getProperties("many", manyNames[0] ?? "", never);
  proxy.setFault(() => ({ status: 503 }));
  expect(
    await requestsOf(async () => {
      for (let n = 0; n < 10; n++) await expect(read()).rejects.toMatchObject({ name: "StorageError" });
      await expect(read()).rejects.toThrow("the circuit is open");
    }),
  ).toBe(3);

  // A probe that fails opens it again.
  expect(await requestsOf(() => vi.waitFor(() => expect(read()).rejects.toThrow("storage answered 503")))).toBe(1);
  expect(await requestsOf(() => expect(read()).rejects.toThrow("the circuit is open"))).toBe(0);

  proxy.setFault(() => undefined);
  await vi.waitFor(read);
  expect(await requestsOf(() => Promise.all(Array.from({ length: 10 }, read)))).toBe(10);
});

test("a call waits for an open circuit within its tries; refusals for good don't open it", async () => {
  const containers = open({ maxTries: 8, breakAfter: 2, halfOpenAfterMs: 100, backoffMs: 20 });
  proxy.setFault((n) => (n <= 2 ? "drop" : undefined));
  expect(await listAll(containers, "many")).toHaveLength(manyNames.length);

  for (let n = 0; n < 5; n++) {
    await expect(containers.getProperties("many", "gone", never)).rejects.toMatchObject({ code: "task-failed" });
  }
  expect(await listAll(containers, "many")).toHaveLength(manyNames.length);
});

test("what is missing is permanent, and named", async () => {
  const containers = open();
  const requests = await requestsOf(async () => {
    const refused = { name: "PermanentError", code: "task-failed" };
    await expect(listAll(containers, "no-such")).rejects.toMatchObject({ ...refused, message: "no container no-such" });
    await expect(containers.getProperties("no-such", "a", never)).rejects.toMatchObject({
      ...refused,
      message: "no container no-such",
    });
    await expect(containers.getProperties("many", "a b/%", never)).rejects.toMatchObject({
      ...refused,
      message: "no a b/% in container many",
    });
  });
  expect(requests).toBe(3);
});

test.each([401, 403, 400, 409])("an answer %i is permanent, and not asked for again", async (status) => {
  proxy.setFault(() => ({ status, code: "SomeCode" }));
  const refused = { name: "PermanentError", code: "task-failed", message: expect.stringContaining("container many") };
  const requests = await requestsOf(async () => {
    await expect(listAll(open(), "many")).rejects.toMatchObject(refused);
    await expect(open().getProperties("many", "a", never)).rejects.toMatchObject(refused);
  });
  expect(requests).toBe(2);
});

test("a wrong account key is permanent", async () => {
  const wrong = azurite.connectionString.replace(/AccountKey=[^;]*/, "AccountKey=d3Jvbmc=");
  await expect(listAll(createContainers({ connectionString: wrong }), "many")).rejects.toThrow("no access to container many");
});

test.each([
  ["while an answer is awaited", "hang" as const],
  ["between tries", { status: 503 }],
])("an abort %s ends the call at once with its reason", async (_, fault) => {
  const reason = new Error("time to go");
  const stopping = new AbortController();
  proxy.setFault((n) => (n > 2 ? fault : undefined));
  const seen = proxy.requests.length;
  const listing = listAll(open({ backoffMs: 60_000, maxBackoffMs: 60_000 }), "many", stopping.signal);
  const outcome = expect(listing).rejects.toBe(reason);
  await vi.waitFor(() => expect(proxy.requests.length).toBe(seen + 3));
  const start = performance.now();
  stopping.abort(reason);
  await outcome;
  expect(performance.now() - start).toBeLessThan(1_000);
});

test("names of every kind are listed and read", async () => {
  const names = [
    "100% sure.TIF",
    "UPPER/CASE.TIF",
    "a file with spaces.txt",
    "hash#tag?query=1&b=2.csv",
    "literal%20percent.json",
    "nested/deeply/in/folders/file.tar.gz",
    "no-extension",
    "plus+sign;semi:colon@at.txt",
    "ünï/日本語/🙂.geojson",
  ].sort();
  const container = await upload("names", names);
  await container.getBlockBlobClient("empty").upload("", 0, {
    metadata: { sensor: "S2", note: "a b" },
    blobHTTPHeaders: { blobContentType: "image/tiff" },
  });
  const containers = open({ pageSize: 4 });
  const listed = await listAll(containers, "names");
  expect(listed.map(({ name }) => name)).toEqual([...names, "empty"].sort());
  for (const { name, size, lastModified } of listed) {
    expect(size).toBe(name === "empty" ? 0 : Buffer.byteLength(name));
    expect(await containers.getProperties("names", name, never)).toMatchObject({ size, lastModified });
  }
  expect(await containers.getProperties("names", "empty", never)).toMatchObject({
    contentType: "image/tiff",
    etag: expect.stringMatching(/^".+"$/),
    metadata: { sensor: "S2", note: "a b" },
  });
});

test("a prefix narrows the listing, and folders of a hierarchical account are no files", async () => {
  const container = await upload("lake", ["a/1", "a/2", "b/1"]);
  await container.getBlockBlobClient("a").upload("", 0, { metadata: { hdi_isfolder: "true" } });
  const names: string[] = [];
  for await (const { name } of open().list("lake", { prefix: "a", signal: never })) names.push(name);
  expect(names).toEqual(["a/1", "a/2"]);
});

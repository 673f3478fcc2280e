import { BlobServiceClient } from "@azure/storage-blob";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createBlobClaimCheck } from "../../shared/claim-check/blob.ts";
import { openClaimCheck } from "../../shared/claim-check/open.ts";
import { type Azurite, startAzurite } from "../support/azurite.ts";
import { collect } from "../support/collect.ts";
import { type Fault, type FaultProxy, startFaultProxy } from "../support/fault-proxy.ts";
import { describeClaimCheck } from "./conformance.ts";

describeClaimCheck("a claim check in Blob Storage", async () => {
  const server = await startAzurite();
  const { connectionString } = server;
  const elsewhere = await openClaimCheck({ connectionString, container: "elsewhere" }).writeLines("there", [1]);
  return {
    open: () => openClaimCheck({ connectionString, container: "claims" }),
    missingRef: (ref) => `${ref}.missing`,
    foreignRefs: [
      elsewhere,
      elsewhere.replace("elsewhere", "claims/../elsewhere"),
      elsewhere.replace("elsewhere", "claims/%2e%2e/elsewhere"),
      elsewhere.replace("elsewhere/there", "claims/"),
      elsewhere.replace("elsewhere/there", "claims/%zz"),
      "file:///there",
    ],
    close: () => server.stop(),
  };
});

let server: Azurite;
let proxy: FaultProxy;

beforeAll(async () => {
  server = await startAzurite();
  proxy = await startFaultProxy(server.blobUrl);
}, 30_000);
afterAll(async () => {
  await proxy?.stop();
  await server?.stop();
});

function openThroughProxy(container: string) {
  return createBlobClaimCheck(
    { connectionString: server.connectionString.replace(server.blobUrl, proxy.url), container },
    { backoffMs: 1, tryTimeoutMs: 2_000, breakAfter: 1_000 },
  );
}

const faults: readonly Fault[] = ["drop", "drop-midway", "lose-answer", { status: 503 }, { status: 429 }, { status: 500 }];

/** 10 MB, which is three chunks. */
const lines = Array.from({ length: 100 }, (_, n) => `${n} ${"é".repeat(50_000)}`);

test.each(faults)("a value is stored and read whole although two of three requests meet %j", async (fault) => {
  const claimCheck = openThroughProxy(`faults-${faults.indexOf(fault)}`);
  proxy.setFault((n) => (n % 3 === 0 ? undefined : fault));
  const ref = await claimCheck.writeLines("value", lines);
  expect(await collect(claimCheck.readLines(ref))).toEqual(lines);
}, 30_000);

test("a container that exists already is used; one that was deleted is created again after the write that missed it", async () => {
  proxy.setFault(() => undefined);
  const container = BlobServiceClient.fromConnectionString(server.connectionString).getContainerClient("existing");
  await container.create();
  const claimCheck = openThroughProxy("existing");
  const ref = await claimCheck.writeLines("a", [1]);
  expect(await collect(claimCheck.readLines(ref))).toEqual([1]);
  await container.delete();
  await expect(claimCheck.writeLines("b", [2])).rejects.toThrow("ContainerNotFound");
  expect(await collect(claimCheck.readLines(await claimCheck.writeLines("b", [2])))).toEqual([2]);
});

test("a value that is replaced while it is read is an error, not a mixture", async () => {
  proxy.setFault(() => undefined);
  const claimCheck = openThroughProxy("replaced");
  const ref = await claimCheck.writeLines("value", lines);
  const read = async () => {
    let count = 0;
    for await (const _ of claimCheck.readLines(ref)) {
      if (++count === 1) await claimCheck.writeLines("value", lines.toReversed());
    }
  };
  await expect(read()).rejects.toThrow("ConditionNotMet");
});

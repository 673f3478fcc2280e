import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { startAzurite } from "../support/azurite.ts";

const heapMb = 64;

/** Lists, plans, reduces and indexes a million files in a process whose heap may have 64 MB: the listing alone is about 100 MB. */
async function runMillion(location: object): Promise<void> {
  const script = "test/jobs/million-files.ts";
  const args = [`--max-old-space-size=${heapMb}`, script, JSON.stringify(location), "1000000"];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  console.log(stdout.trim());
  expect(JSON.parse(stdout)).toMatchObject({
    planned: 1_000_000,
    index: {
      file_count: 1_000_000,
      folder_count: 10_000,
      total_size_bytes: 499_999_500_000,
      type_distribution: { ".tif": 1_000_000 },
    },
  });
}

test("a million files in bounded memory, claim check in a directory", async () => {
  const directory = await mkdtemp(join(tmpdir(), "sluice-million-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  await runMillion({ directory });
});

test("a million files in bounded memory, claim check in Blob Storage", async () => {
  const azurite = await startAzurite();
  onTestFinished(() => azurite.stop());
  await runMillion({ connectionString: azurite.connectionString, container: "claims" });
});

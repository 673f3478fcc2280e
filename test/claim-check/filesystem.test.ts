import { mkdir, mkdtemp, readdir, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { openClaimCheck } from "../../shared/claim-check/open.ts";
import { collect } from "../support/collect.ts";
import { describeClaimCheck } from "./conformance.ts";

async function temporaryDirectory(): Promise<string> {
  return await mkdtemp(join(tmpdir(), "sluice-claim-check-"));
}

describeClaimCheck("a claim check in a directory", async () => {
  const directory = await temporaryDirectory();
  return {
    open: () => openClaimCheck({ directory: join(directory, "created/when/needed") }),
    missingRef: (ref) => `${ref}.missing`,
    foreignRefs: [pathToFileURL("/etc/passwd").href, "http://127.0.0.1:10000/devstoreaccount1/claims/there"],
    close: () => rm(directory, { recursive: true }),
  };
});

async function testDirectory(): Promise<string> {
  const directory = await temporaryDirectory();
  onTestFinished(() => rm(directory, { recursive: true }));
  return directory;
}

test("no reference leads out of the directory, neither by its path nor through a link", async () => {
  const directory = await testDirectory();
  const inside = join(directory, "inside");
  await mkdir(inside);
  await mkdir(join(directory, "inside-too"));
  for (const path of ["secret", "inside-too/secret"]) await writeFile(join(directory, path), "1\n");
  await symlink(join(directory, "secret"), join(inside, "link"));
  const { href } = pathToFileURL(directory);
  const refs = ["inside/../secret", "inside/%2e%2e/secret", "inside%2f..%2fsecret", "inside-too/secret", "inside/link", "inside"]
    .map((path) => `${href}/${path}`);
  const claimCheck = openClaimCheck({ directory: inside });
  for (const ref of [...refs, `${href}/inside/a%00b`, `file://elsewhere${inside}/a`]) {
    await expect(collect(claimCheck.readLines(ref)), ref).rejects.toMatchObject({ code: "unknown-task" });
  }
});

test("nothing but whole values is left behind", async () => {
  const directory = await testDirectory();
  const claimCheck = openClaimCheck({ directory });
  await claimCheck.writeLines("a/whole", [1, 2]);
  async function* breaks() {
    yield 1;
    expect(await readdir(join(directory, "a"))).toHaveLength(2);
    throw new Error("broke");
  }
  await expect(claimCheck.writeLines("a/broken", breaks())).rejects.toThrow("broke");
  expect(await readdir(join(directory, "a"))).toEqual(["whole"]);
});

test("a damaged value is a PermanentError that says where", async () => {
  const claimCheck = openClaimCheck({ directory: await testDirectory() });
  const ref = await claimCheck.writeLines("cut", [{ a: 1 }, { b: 2 }]);
  await truncate(fileURLToPath(ref), 12);
  await expect(collect(claimCheck.readLines(ref))).rejects.toThrow(`${ref} ends in the middle of line 2`);
  await writeFile(fileURLToPath(ref), '{"a":1}\noops\n');
  await expect(collect(claimCheck.readLines(ref))).rejects.toThrow(`line 2 of ${ref} is not JSON`);
});

import * as v from "valibot";
import { expect, test } from "vitest";
import { ContainerName, createExtensionTally, extensionOf, folderOf, megabytes, sizeCategoryOf } from "./files.ts";

test.each([
  ["abc", true],
  ["a1-b2-c3", true],
  ["a".repeat(63), true],
  ["0-9", true],
  ["ab", false],
  ["a".repeat(64), false],
  ["Upper", false],
  ["-abc", false],
  ["abc-", false],
  ["a--b", false],
  ["a.b", false],
  ["a_b", false],
  ["abc\n", false],
])("container name %j: %j", (name, valid) => {
  expect(v.is(ContainerName, name)).toBe(valid);
});

test.each([
  ["a.tif", ".tif", ""],
  ["A/B.TIF", ".tif", "A"],
  ["a/b/c.tar.gz", ".gz", "a/b"],
  ["a.b/c", "", "a.b"],
  ["a/.gitignore", "", "a"],
  [".gitignore", "", ""],
  ["name.", "", ""],
  ["v1.0 draft", "", ""],
  ["日本/語.GeoJSON", ".geojson", "日本"],
  ["/a.txt", ".txt", ""],
  ["a//b.txt", ".txt", "a/"],
  [`a.${"x".repeat(31)}`, `.${"x".repeat(31)}`, ""],
  [`a.${"x".repeat(32)}`, "", ""],
  ["a.__proto__", ".__proto__", ""],
])("%j has extension %j and folder %j", (name, extension, folder) => {
  expect(extensionOf(name)).toBe(extension);
  expect(folderOf(name)).toBe(folder);
});

test.each([
  [0, "tiny"],
  [1_048_575, "tiny"],
  [1_048_576, "small"],
  [10_485_759, "small"],
  [10_485_760, "medium"],
  [104_857_600, "large"],
  [1_073_741_823, "large"],
  [1_073_741_824, "huge"],
  [5e14, "huge"],
])("%d bytes are %s", (bytes, category) => {
  expect(sizeCategoryOf(bytes)).toBe(category);
});

test("megabytes have two decimals", () => {
  expect([0, 5_000, 1_572_864, 153_222_000_000].map(megabytes)).toEqual([0, 0, 1.5, 146_123.89]);
});

test("the tally lists the hundred most frequent extensions, and loses no file", () => {
  const tally = createExtensionTally();
  for (let n = 0; n < 150; n++) {
    for (let count = 0; count <= n; count++) tally.add(n === 149 ? "" : `.e${n}`);
  }
  const counts = tally.counts();
  expect(counts["(none)"]).toBe(150);
  expect(counts[".e148"]).toBe(149);
  expect(counts[".e50"]).toBe(51);
  expect(counts).not.toHaveProperty([".e49"]);
  expect(counts["(other)"]).toBe((50 * 51) / 2);

  const wide = createExtensionTally();
  for (let n = 0; n < 100_000; n++) wide.add(`.${n}`);
  expect(Object.values(wide.counts()).reduce((sum, count) => sum + count)).toBe(100_000);
});

import { expect, test } from "vitest";
import { parseOptions } from "./options.ts";

test("the whole matrix is written to the docs, a part of it only where it is told to", () => {
  expect(parseOptions([])).toMatchObject({ runs: 3, azure: false, output: "docs/service-bus-results.md" });
  expect(parseOptions(["--azure", "--runs=5"])).toMatchObject({ runs: 5, azure: true, output: "docs/service-bus-results.md" });
  expect(parseOptions(["--quick"])).toMatchObject({ runs: 1, output: undefined });
  expect(parseOptions(["--only=hello_world"])).toMatchObject({ only: "hello_world", output: undefined });
  expect(parseOptions(["--quick", "--output=x.md"])).toMatchObject({ output: "x.md" });
  expect(parseOptions(["--help"])).toBe("help");
});

test.each([["--runs=0"], ["--runs=x"], ["--only=assessment"], ["--fast"], ["more"]])("%s is refused", (argument) => {
  expect(() => parseOptions([argument])).toThrow();
});

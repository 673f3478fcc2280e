import { expect, test } from "vitest";
import { ArgumentError, parseCommandLine, refuseSwallowedOptions } from "./command-line.ts";

test("without options it creates, for the tier Standard", () => {
  expect(parseCommandLine([])).toEqual({ mode: "create", tier: "standard", json: false });
});

test("options are read", () => {
  expect(parseCommandLine(["--check", "--tier", "basic"])).toEqual({ mode: "check", tier: "basic", json: false });
  expect(parseCommandLine(["--update", "--tier=standard", "--json"])).toEqual({ mode: "update", tier: "standard", json: true });
  expect(parseCommandLine(["--help", "--check"])).toBe("help");
});

test.each([
  [["--chek"], "--chek"],
  [["everything"], "everything"],
  [["--tier"], "--tier"],
  [["--tier", "premium"], "--tier must be basic or standard"],
  [["--check=yes"], "--check"],
  [["--check", "--update"], "--check changes nothing, --update does"],
])("%j is refused with the name of what is wrong", (args, name) => {
  expect(() => parseCommandLine(args)).toThrow(ArgumentError);
  expect(() => parseCommandLine(args)).toThrow(name);
});

test("an option that npm kept for itself is refused, as a check would create", () => {
  expect(() => refuseSwallowedOptions({ npm_config_check: "true" })).toThrow("npm run provision -- --check");
  expect(() => refuseSwallowedOptions({ npm_config_tier: "true" })).toThrow(ArgumentError);
  expect(() => refuseSwallowedOptions({ npm_config_cache: "/tmp", npm_command: "run-script" })).not.toThrow();
});

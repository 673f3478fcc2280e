import { fc } from "../../../test/support/seeded.ts";
import { expect, test } from "vitest";
import { formatDuration, parseDuration } from "./duration.ts";

test("a duration is read as it was written", () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 1e12 }), (ms) => {
    expect(parseDuration(formatDuration(ms))).toBe(ms);
  }));
});

test("Azure's spellings", () => {
  expect(formatDuration(Infinity)).toBe("P10675199DT2H48M5.4775807S");
  expect(parseDuration("P10675199DT2H48M5.4775807S")).toBe(Infinity);
  expect([60_000, 5_000, 90_061_500].map(formatDuration)).toEqual(["PT1M", "PT5S", "P1DT1H1M1.5S"]);
  for (const text of ["", "P", "PT", "5", "P1Y", "PT5"]) expect(parseDuration(text)).toBeUndefined();
});

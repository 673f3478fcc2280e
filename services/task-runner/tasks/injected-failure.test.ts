import { pino } from "pino";
import { expect, test } from "vitest";
import type { ClaimCheck } from "../../../shared/claim-check/claim-check.ts";
import type { TaskContext } from "../task-handler.ts";
import { injectFailure } from "./injected-failure.ts";

const claimCheck: ClaimCheck = {
  writeLines: () => Promise.reject(new Error("nothing to store")),
  async *readLines() {},
};

const { signal } = new AbortController();
const log = pino({ level: "silent" });

function contextOf(index: number, attempt: number): TaskContext {
  return { jobId: "a".repeat(64), taskId: 1, stage: 1, index, attempt, claimId: "c", signal, claimCheck, log };
}

function failures(rate: number, attempt = 1): boolean[] {
  return Array.from({ length: 10_000 }, (_, index) => {
    try {
      injectFailure(rate, contextOf(index, attempt));
      return false;
    } catch {
      return true;
    }
  });
}

test.each([0, 0.1, 0.5, 1])("a rate of %d strikes that share of the attempts", (rate) => {
  const struck = failures(rate).filter(Boolean).length / 10_000;
  // Six standard deviations of ten thousand draws.
  expect(Math.abs(struck - rate)).toBeLessThanOrEqual(6 * Math.sqrt((rate * (1 - rate)) / 10_000));
});

test("the same attempt fails alike each time, the next one on its own", () => {
  expect(failures(0.5)).toEqual(failures(0.5));
  const second = failures(0.5, 2);
  const both = failures(0.5, 1).filter((struck, index) => struck && second[index]).length / 10_000;
  expect(Math.abs(both - 0.25)).toBeLessThan(0.03);
});

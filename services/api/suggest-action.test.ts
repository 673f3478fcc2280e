import { expect, test } from "vitest";
import { natureOf, suggestAction } from "./suggest-action.ts";

const group = {
  code: "error",
  state: "ongoing",
  verdicts: { expected: 3 },
  task_type: "greet",
  at: null,
  tried_again: 0,
  succeeded_later: 0,
  failed_again: 0,
} as const;

test("one task that completed when it was tried again makes a group transient, whatever its code says", () => {
  expect(natureOf({ ...group, code: "task-failed", succeeded_later: 1, failed_again: 4 })).toBe("transient");
});

test("a group is permanent by its code, or if what was tried again failed again; else nobody knows", () => {
  expect(natureOf({ ...group, code: "contract-violation" })).toBe("permanent");
  expect(natureOf({ ...group, failed_again: 1 })).toBe("permanent");
  expect(natureOf(group)).toBe("unknown");
});

test.each([
  [{ state: "resolved" as const }, "Nothing: it was resolved and has not come back."],
  [{ code: "unknown-type" }, "Deploy a task-runner that knows greet, then redrive."],
  [{ tried_again: 3, succeeded_later: 2, failed_again: 1 }, "Redrive: 2 of 3 tasks that were tried again completed."],
  [
    { tried_again: 2, failed_again: 2, at: "services/x.ts run" },
    "Fix the cause in services/x.ts run first: 2 of 2 tasks that were tried again failed again.",
  ],
  [{ code: "task-failed" }, "Fix the cause, then redrive: the task says that trying again is no use."],
  [{ verdicts: { stale: 2, alive: 1 } }, "Nothing: the rows go on by themselves."],
  [{ verdicts: { orphan: 2 } }, "Discard it: its rows are gone, as after a redeploy of the schema."],
  [{}, "Redrive one of them, and the rest if it completes."],
])("%o: %s", (changes, action) => expect(suggestAction({ ...group, ...changes })).toBe(action));

test("what completed is no loss", () => {
  expect(suggestAction({ ...group, verdicts: { contradiction: 1 } })).toMatch(/^Nothing is lost/);
});

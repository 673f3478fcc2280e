import * as v from "valibot";
import { expect, test } from "vitest";
import { injectFailure } from "../../services/task-runner/tasks/injected-failure.ts";
import { parse } from "../../shared/contracts/parse.ts";
import { describeError, PermanentError } from "../../shared/errors.ts";
import { withTimeLimit } from "../../shared/time-limit.ts";

function thrownBy(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

test("an error is recorded with the file and function of ours that it arose in", () => {
  const error = thrownBy(() => Reflect.apply(injectFailure, null, [1, { jobId: "j", stage: 1, index: 0, attempt: 2 }]));
  expect(describeError(error)).toEqual({
    code: "error",
    message: "failure_rate 1 struck attempt 2",
    at: "services/task-runner/tasks/injected-failure.ts injectFailure",
  });
});

test("what arose in a library is recorded with the first of ours that called it", () => {
  const error = thrownBy(() =>
    Reflect.apply(injectFailure, null, [1, {
      get jobId() {
        return JSON.parse("{");
      },
    }])
  );
  expect(describeError(error).at).toBe("services/task-runner/tasks/injected-failure.ts injectFailure");
});

test("a broken contract is told apart by its message, and what arose elsewhere has no place", async () => {
  expect(describeError(thrownBy(() => parse(v.object({ n: v.number() }), {})))).toEqual({
    code: "invalid-message",
    message: "n: is missing",
  });
  expect(describeError(new PermanentError("task-failed", "no"))).toEqual({ code: "task-failed", message: "no" });
  expect(describeError("text")).toEqual({ code: "error", message: "text" });
  const late = await withTimeLimit(new Promise(() => {}), 1).catch((error: unknown) => error);
  expect(describeError(late).at).toMatch(/^shared\/time-limit\.ts/);
});

test("a message that looks like a stack is none", () => {
  const error = new Error("x\n    at hide (/etc/services/x.ts:1:1)");
  expect(describeError(error).at).toBeUndefined();
});

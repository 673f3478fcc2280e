import { expect, test } from "vitest";
import { createSettlementFence } from "./settlement-fence.ts";

/** What was started in each turn of the event loop. */
function recordTurns() {
  const turns: string[][] = [];
  let current: string[] | undefined;
  const record = (name: string) => {
    if (!current) {
      turns.push(current = []);
      setImmediate(() => current = undefined);
    }
    current.push(name);
  };
  return { turns, record };
}

test("completes share a turn, any other outcome has one of its own, and the order stays", async () => {
  const { turns, record } = recordTurns();
  const fence = createSettlementFence();
  const outcomes = ["c1", "c2", "a1", "c3", "d1", "d2", "c4", "c5"];
  await Promise.all(outcomes.map((name) => fence(name.startsWith("c") ? "complete" : "other", async () => record(name))));
  expect(turns).toEqual([["c1", "c2"], ["a1"], ["c3"], ["d1"], ["d2"], ["c4", "c5"]]);
});

test("what a settlement rejects with is its own caller's", async () => {
  const fence = createSettlementFence();
  const settled = await Promise.allSettled([
    fence("complete", async () => 1),
    fence("other", () => Promise.reject(new Error("lost"))),
    fence("complete", async () => 3),
  ]);
  expect(settled.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
});

test("a settlement that is asked for later waits for the turn after", async () => {
  const { turns, record } = recordTurns();
  const fence = createSettlementFence();
  const first = fence("complete", async () => record("c1"));
  await first;
  await Promise.all([fence("other", async () => record("a1")), fence("complete", async () => record("c2"))]);
  expect(turns.map((turn) => turn.length)).toEqual([1, 1, 1]);
});

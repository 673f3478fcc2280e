import { expect, test } from "vitest";
import { createSequence } from "./sequences.ts";

test("what came, what came twice, and what is missing", () => {
  const sequence = createSequence();
  expect([0, 2, 1, 1, 0, 5, 5, 4].map((number) => sequence.note(number))).toEqual(
    [true, true, true, false, false, true, false, true],
  );
  expect(sequence.next).toBe(3);
  expect(sequence.received).toBe(5);
});

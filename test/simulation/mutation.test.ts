import { expect, test } from "vitest";
import { createMutator, type Mutation } from "./mutation.ts";

const tag = (strings: TemplateStringsArray, ...args: unknown[]) => ({ strings, args });
const { strings, args } = tag`update tasks set done = ${true} where id = ${7}
  and claim_id = ${"a"} and status = 'processing'`;

function mutate(mutation: Mutation) {
  const mutator = createMutator([mutation]);
  const rewritten = mutator.rewrite(strings, args);
  return { text: rewritten.strings.join("?").replace(/\s+/g, " "), args: rewritten.args, matches: mutator.matches.get(mutation) };
}

test("a piece of a statement goes, with its parameters", () => {
  expect(mutate({ find: "and claim_id = ? and status", replace: "and status" })).toEqual({
    text: "update tasks set done = ? where id = ? and status = 'processing'",
    args: [true, 7],
    matches: 1,
  });
});

test("a piece is replaced by another that keeps its parameters", () => {
  expect(mutate({ find: "id = ? and claim_id = ?", replace: "id = ? and ?::text is not null" })).toEqual({
    text: "update tasks set done = ? where id = ? and ?::text is not null and status = 'processing'",
    args: [true, 7, "a"],
    matches: 1,
  });
});

test("a statement without the piece stays as it is", () => {
  expect(mutate({ find: "and run = ?", replace: "" })).toMatchObject({ args: [true, 7, "a"], matches: 0 });
});

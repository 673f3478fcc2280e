import type { Stack } from "./stack.ts";

export function describeLogTails(tails: ReturnType<Stack["logTails"]>): string {
  return tails
    .filter(({ lines }) => lines.some((line) => line !== ""))
    .map(({ name, lines }) => `--- ${name} ---\n${lines.join("\n")}`)
    .join("\n\n");
}

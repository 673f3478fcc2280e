import { expect } from "vitest";
import type { Simulated } from "./simulate.ts";

/** On a failure, says how to replay the run, and how it ended. */
export function expectClean(seed: number | string, { violations, refusals, trace }: Simulated): void {
  const story = `seed ${seed}; the whole of it: node test/simulation/search.ts ${seed} --trace\n${trace.slice(-80).join("\n")}`;
  expect({ violations, refusals }, story).toEqual({ violations: [], refusals: [] });
}

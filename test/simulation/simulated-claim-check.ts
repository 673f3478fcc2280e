import type { ClaimCheck } from "../../shared/claim-check/claim-check.ts";
import { collect } from "../support/collect.ts";
import type { SimulatedProcess, World } from "./world.ts";

/** What all processes of a run have stored, by key. */
export type Blobs = Map<string, readonly unknown[]>;

/** A claim check as one process reaches it. */
export function createSimulatedClaimCheck(
  { world, process, blobs, keyOf }: { world: World; process: SimulatedProcess; blobs: Blobs; keyOf: (key: string) => string },
): ClaimCheck {
  return {
    async writeLines(key, lines) {
      const values = await collect(lines);
      return await world.operate(process, "claim check", `writes ${keyOf(key).slice(-20)}`, async () => {
        blobs.set(keyOf(key), values);
        return keyOf(key);
      }, { canBeLate: true });
    },
    async *readLines(ref) {
      yield* await world.operate(process, "claim check", `reads ${ref.slice(-20)}`, async () => {
        const values = blobs.get(ref);
        if (!values) throw new Error(`nothing is stored at ${ref}`);
        return values;
      });
    },
  };
}

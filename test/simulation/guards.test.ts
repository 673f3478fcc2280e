import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { expectClean } from "./expect-clean.ts";
import { type Guard, guards } from "./guards.ts";
import { createSimulationDatabase, type SimulationDatabase } from "./simulated-database.ts";
import { type Focus, simulate } from "./simulate.ts";

/** Seeds tried after the known one, which a change of the engine may have made another run. */
const otherSeeds = Array.from({ length: 120 }, (_, position) => position + 1);

describe("each guard is needed", () => {
  let database: SimulationDatabase;
  beforeAll(async () => {
    database = await createSimulationDatabase(inject("postgresUrl"), "guards");
  });
  afterAll(() => database.drop());

  test.each(guards.map((guard, position) => ({ guard, position, rule: guard.rule })))("$rule", async ({ guard, position }) => {
    const seed = await withoutGuard(guard, position);
    expect(seed, "no seed shows what the guard is for").not.toBeNull();
    if (seed !== null) await checkWithGuard(seed, guard.focus ?? {});
  });

  /** Several guards may share a seed. */
  const checked = new Set<string>();
  async function checkWithGuard(seed: number, focus: Focus): Promise<void> {
    const key = JSON.stringify([seed, focus]);
    if (checked.has(key)) return;
    checked.add(key);
    expectClean(seed, await simulate({ seed, database, focus }));
  }

  /** The first seed that finds what must be found without the guard. */
  async function withoutGuard(guard: Guard, position: number): Promise<number | null> {
    const open = guard.ddl ? await createSimulationDatabase(inject("postgresUrl"), `guard_${position}`, guard.ddl) : database;
    try {
      let neverMatched: readonly string[] | undefined; // a run need not come to every statement
      for (const seed of [guard.seed, ...otherSeeds]) {
        const { violations, unmatched } = await simulate({ ...guard, seed, database: open });
        expect(unmatched.filter((mutation) => !mutation.startsWith("0: ")), "found in several statements").toEqual([]);
        neverMatched = neverMatched?.filter((mutation) => unmatched.includes(mutation)) ?? unmatched;
        if (neverMatched.length === 0 && violations.some((violation) => guard.finds.test(violation))) return seed;
      }
      expect(neverMatched, "the engine's SQL has changed").toEqual([]);
      return null;
    } finally {
      if (guard.ddl) await open.drop();
    }
  }
});

import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { createSimulationDatabase, type SimulationDatabase } from "./simulated-database.ts";
import { simulate } from "./simulate.ts";
import { expectClean } from "./expect-clean.ts";

describe("the real engine, through chaos and calm", () => {
  let database: SimulationDatabase;
  beforeAll(async () => {
    database = await createSimulationDatabase(inject("postgresUrl"), "simulation");
  });
  afterAll(() => database.drop());

  const perTest = 5;
  const starts = Array.from({ length: 7 }, (_, position) => position * perTest + 1);
  test.each(starts)(`no violation in ${perTest} seeds from %i on`, async (from) => {
    for (let seed = from; seed < from + perTest; seed++) expectClean(seed, await simulate({ seed, database }));
  });

  test("the same seed gives the same run", async () => {
    const first = await simulate({ seed: 3, database });
    await simulate({ seed: 4, database });
    expect((await simulate({ seed: 3, database })).trace).toEqual(first.trace);
  });
});

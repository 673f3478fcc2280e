import { afterAll, beforeAll, describe, inject, test } from "vitest";
import { expectClean } from "./expect-clean.ts";
import { focuses } from "./focuses.ts";
import { createSimulationDatabase, type SimulationDatabase } from "./simulated-database.ts";
import { simulate } from "./simulate.ts";

describe("the real engine, through a lot of chaos", () => {
  let database: SimulationDatabase;
  beforeAll(async () => {
    database = await createSimulationDatabase(inject("postgresUrl"), "long_simulation");
  });
  afterAll(() => database.drop());

  test.each(Object.keys(focuses))("no violation in 300 seeds, focus: %s", async (name) => {
    for (let seed = 1_001; seed <= 1_300; seed++) {
      expectClean(`${seed} --focus ${name}`, await simulate({ seed, database, focus: focuses[name] ?? {} }));
    }
  });
});

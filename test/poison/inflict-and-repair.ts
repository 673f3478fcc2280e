import { expect } from "vitest";
import { findViolations } from "../../shared/store/invariants.ts";
import { createTestDatabase } from "../support/database.ts";
import { fc } from "../support/seeded.ts";
import { ageRows, buildHealthySystem, type Damage, damages, relay } from "./damages.ts";
import { openDamagedSystem, reconcile } from "./reconcile-once.ts";

/** Does these damages to a healthy system, and sees what is found, mended, and found again. */
export async function inflictAndRepair(inflicted: readonly { damage: Damage; size: number }[]): Promise<void> {
  const database = await createTestDatabase();
  const system = openDamagedSystem(database.sql);
  try {
    await buildHealthySystem(system);
    const expected: { what: string; isRepairable: boolean }[] = [];
    for (const { damage, size } of inflicted) {
      const found = await damage.inflict(system, size);
      expected.push(...found.map((what) => ({ what, isRepairable: damage.isRepairable })));
    }
    await ageRows(system.sql);
    const all = expected.map(({ what }) => what).sort();
    const lasting = expected.filter(({ isRepairable }) => !isRepairable).map(({ what }) => what).sort();
    expect((await reconcile(system, "dry-run")).found).toEqual(all);
    const applied = await reconcile(system, "apply");
    expect(applied.found).toEqual(all);
    expect(applied.repaired).toEqual(expected.filter(({ isRepairable }) => isRepairable).map(({ what }) => what).sort());
    await relay(system);
    const after = await reconcile(system, "dry-run");
    expect(after.found).toEqual(lasting);
    if (lasting.length === 0) expect(await findViolations(system.sql)).toEqual([]);
  } finally {
    await system.close();
    await database.drop();
  }
}

const byName = new Map(damages.map((damage) => [damage.name, damage]));

/** The same with any of the damages, together. */
export async function inflictAny(numRuns: number): Promise<void> {
  const some = fc.uniqueArray(fc.record({ name: fc.constantFrom(...byName.keys()), size: fc.integer({ min: 1, max: 12 }) }), {
    minLength: 2,
    maxLength: 12,
    selector: ({ name }) => name,
  });
  const inflict = fc.asyncProperty(some, async (named) => {
    await inflictAndRepair(named.flatMap(({ name, size }) => {
      const damage = byName.get(name);
      return damage ? [{ damage, size }] : [];
    }));
  });
  await fc.assert(inflict, { numRuns, endOnFailure: true });
}

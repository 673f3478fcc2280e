import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, onTestFinished } from "vitest";
import { runnerLeaseMs } from "../../shared/store/runners.ts";
import { readUptimeMs } from "../../shared/store/sweep.ts";
import { createTestDatabase, test } from "../support/database.ts";
import { fc } from "../support/seeded.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { ageRows, buildHealthySystem, type Damage, damages, relay } from "./damages.ts";
import { openDamagedSystem, reconcile } from "./reconcile-once.ts";

const repairable = damages.filter(({ isRepairable }) => isRepairable);

const byName = new Map(damages.map((damage) => [damage.name, damage]));

function never(name: string): never {
  throw new Error(`no damage ${name}`);
}

/** Does these damages to a healthy system, and sees what is found, mended, and found again. */
async function inflictAndRepair(inflicted: readonly { damage: Damage; size: number }[]): Promise<void> {
  const database = await createTestDatatest();
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

/** Until then, leases that expired say nothing: nobody could renew them while the server was away. */
beforeAll(async () => {
  const { sql, drop } = await createTestDatatest();
  while (await readUptimeMs(sql) < runnerLeaseMs) await sleep(200);
  await drop();
});

describe("a run", () => {
  test("on a healthy system finds nothing, however old its rows", async ({ sql }) => {
    const system = openDamagedSystem(sql);
    onTestFinished(() => system.close());
    expect((await reconcile(system, "dry-run")).found).toEqual([]);
    await buildHealthySystem(system);
    expect((await reconcile(system, "dry-run")).found).toEqual([]);
    await ageRows(sql);
    expect((await reconcile(system, "apply")).found).toEqual([]);
    expect(await findViolations(sql)).toEqual([]);
  });

  test("on a database of another version says so, and nothing else", async ({ sql }) => {
    const system = openDamagedSystem(sql);
    onTestFinished(() => system.close());
    await sql`update schema_migrations set hash = 'another' where name = '0001_pipeline.sql'`;
    await sql`insert into jobs (id, job_type, parameters, processing_path, total_stages, correlation_id, status)
      values (${"a".repeat(64)}, 'j', '{}', 'bullmq', 1, 'c', 'processing')`;
    expect((await reconcile(system, "apply")).found).toEqual(["schema-mismatch schema_migrations"]);
  });
});

describe("each damage is found and named, then mended where it can be", () => {
  test.each(damages.map((damage) => [damage.name, damage] as const))("%s", async (_, damage) => {
    await inflictAndRepair([{ damage, size: 3 }]);
  });

  test("all that can be mended, at once, and nothing is left", async () => {
    await inflictAndRepair(repairable.map((damage) => ({ damage, size: 2 })));
  });

  test("all there are, at once", async () => {
    await inflictAndRepair(damages.map((damage) => ({ damage, size: 2 })));
  });

  const numRuns = process.env.SLUICE_LONG_TESTS === "true" ? 200 : 6;
  test("any of them, together", async () => {
    const some = fc.uniqueArray(fc.record({ name: fc.constantFrom(...byName.keys()), size: fc.integer({ min: 1, max: 12 }) }), {
      minLength: 2,
      maxLength: 12,
      selector: ({ name }) => name,
    });
    const inflict = fc.asyncProperty(
      some,
      (named) => inflictAndRepair(named.flatMap(({ name, size }) => ({ damage: byName.get(name) ?? never(name), size }))),
    );
    await fc.assert(inflict, { numRuns, endOnFailure: true });
  });
});

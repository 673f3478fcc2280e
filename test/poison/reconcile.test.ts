import { beforeAll, describe, expect, onTestFinished } from "vitest";
import { findViolations } from "../../shared/store/invariants.ts";
import { test, whenLeasesMeanSomething } from "../support/database.ts";
import { ageRows, buildHealthySystem, damages } from "./damages.ts";
import { inflictAndRepair, inflictAny } from "./inflict-and-repair.ts";
import { openDamagedSystem, reconcile } from "./reconcile-once.ts";

beforeAll(whenLeasesMeanSomething);

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

// Each by itself is a long test.
describe("damages are found and named, then mended where they can be", () => {
  test("all that can be mended, at once, and nothing is left", async () => {
    await inflictAndRepair(damages.filter(({ isRepairable }) => isRepairable).map((damage) => ({ damage, size: 2 })));
  });

  test("all there are, at once", async () => {
    await inflictAndRepair(damages.map((damage) => ({ damage, size: 2 })));
  });

  test("any of them, together", () => inflictAny(5));
});

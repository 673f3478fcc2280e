import { pino } from "pino";
import { expect } from "vitest";
import { createSweep } from "../../services/orchestrator/sweep.ts";
import { openClaimCheck } from "../../shared/claim-check/open.ts";
import { createJobCatalog } from "../../shared/jobs/catalog.ts";
import { stopJob } from "../../shared/store/jobs.ts";
import { test, whenLeasesMeanSomething } from "../support/database.ts";
import { jobId, openStage } from "../support/open-stage.ts";

test("a step of the sweep that fails is reported, and the others are taken all the same", async ({ sql }) => {
  const lines: Record<string, unknown>[] = [];
  await openStage(sql, 5);
  await stopJob(sql, { jobId, as: "cancelled", error: null });
  await sql`alter table runners rename to runners_elsewhere`; // expired leases can't be looked for
  const { sweepOnce } = createSweep({
    sql,
    id: "orchestrator",
    jobs: createJobCatalog([]),
    transports: new Map(),
    claimCheck: openClaimCheck({ directory: "/tmp/sluice-unused" }),
    log: pino({ level: "warn" }, { write: (line: string) => void lines.push(JSON.parse(line)) }),
    wakeRelay() {},
  }, { intervalMs: 1, graceMs: 0 });
  await whenLeasesMeanSomething();
  await sweepOnce();
  expect(lines).toMatchObject([{ msg: "sweep step failed", step: "expired leases", err: { code: "42P01" } }]);
  expect(await sql`select status from jobs`).toEqual([{ status: "cancelled" }]);
  expect(await sql`select distinct status from tasks`).toEqual([{ status: "cancelled" }]);
});

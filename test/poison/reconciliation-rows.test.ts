import * as v from "valibot";
import { describe, expect } from "vitest";
import { ReconciliationFinding, ReconciliationRun, type ReconciliationSummary } from "../../shared/contracts/reconciliation.ts";
import {
  compareFindings,
  completeReconciliationRun,
  failAbandonedRuns,
  findLatestReconciliationRun,
  findReconciliationRun,
  insertFindings,
  isReconciliationWanted,
  listReconciliationFindings,
  listReconciliationRuns,
  markRepaired,
  type NewFinding,
  requestReconciliation,
  requestScheduledReconciliation,
  takeReconciliationRun,
} from "../../shared/store/reconciliation.ts";
import { test } from "../support/database.ts";

const summary: ReconciliationSummary = {
  version: 1,
  findings: 0,
  repaired: 0,
  severities: {},
  kinds: {},
  rows: { jobs: 0, stages: 0, tasks: 0, batches: 0 },
  checks: [],
  queues: [],
  runners: [],
  sweep: { repaired_since_previous: null, due: {} },
};
const finding = (stage: number, kind: NewFinding["kind"] = "stuck-stage"): NewFinding => ({
  kind,
  severity: "error",
  subject_type: "stage",
  subject_id: String(stage),
  job_id: null,
  stage_id: stage,
  task_id: null,
  transport: null,
  queue: null,
  message: `stage ${stage}`,
  suggested_action: "none",
  repairable: true,
});

describe("a run", () => {
  test("is requested once per mode, executed in turn, and read as its contract says", async ({ sql }) => {
    const first = await requestReconciliation(sql, { mode: "dry-run", requestedBy: "api" });
    expect(await requestReconciliation(sql, { mode: "dry-run", requestedBy: "command" })).toEqual(first);
    const second = await requestReconciliation(sql, { mode: "apply", requestedBy: "command" });
    expect(second.run_id).not.toBe(first.run_id);
    const taken = await takeReconciliationRun(sql, "poison-1");
    expect(taken).toMatchObject({ runId: first.run_id, mode: "dry-run", previousRun: null });
    expect(await completeReconciliationRun(sql, "poison-2", first.run_id, summary)).toBe(false);
    expect(await completeReconciliationRun(sql, "poison-1", first.run_id, summary)).toBe(true);
    expect(await takeReconciliationRun(sql, "poison-1")).toMatchObject({ runId: second.run_id, previousRun: first.run_id });
    const { rows, next } = await listReconciliationRuns(sql, { limit: 1 });
    expect(rows.map((run) => v.parse(ReconciliationRun, run).run_id)).toEqual([second.run_id]);
    expect((await listReconciliationRuns(sql, { limit: 1, after: next ?? 0 })).rows.map(({ run_id }) => run_id)).toEqual([
      first.run_id,
    ]);
    expect(await findLatestReconciliationRun(sql)).toMatchObject({ run_id: first.run_id, status: "completed" });
  });

  test("whose executor died is failed by the next one", async ({ sql }) => {
    const { run_id } = await requestReconciliation(sql, { mode: "dry-run", requestedBy: "api" });
    await takeReconciliationRun(sql, "poison-1");
    expect(await failAbandonedRuns(sql)).toEqual([run_id]);
    expect(await findReconciliationRun(sql, run_id)).toMatchObject({ status: "failed", error: { code: "executor-died" } });
    expect(await completeReconciliationRun(sql, "poison-1", run_id, summary)).toBe(false);
  });

  test("is due once per interval, not while another waits, and not on a new schema", async ({ sql }) => {
    const hour = 3_600_000;
    expect(await isReconciliationWanted(sql, 0)).toBe(false);
    expect(await isReconciliationWanted(sql, hour)).toBe(false);
    await sql`update schema_migrations set applied_at = now() - interval '2 hours'`;
    expect(await isReconciliationWanted(sql, hour)).toBe(true);
    expect(await requestScheduledReconciliation(sql, hour)).toBe(true);
    await sql`update reconciliation_runs set requested_at = now() - interval '2 hours'`;
    expect(await requestScheduledReconciliation(sql, hour)).toBe(false);
    expect(await isReconciliationWanted(sql, 0)).toBe(true);
  });
});

describe("findings", () => {
  test("are listed by page and kind, and compared with those of the run before", async ({ sql }) => {
    const runs: number[] = [];
    for (const stages of [[1, 2, 3], [2, 3, 4, 5]]) {
      const { run_id } = await requestReconciliation(sql, { mode: "dry-run", requestedBy: "api" });
      await takeReconciliationRun(sql, "poison-1");
      const ids = await insertFindings(sql, run_id, stages.map((stage) => finding(stage)));
      await insertFindings(sql, run_id, [finding(9, "index-gap")]);
      await markRepaired(sql, ids.slice(0, 1));
      await completeReconciliationRun(sql, "poison-1", run_id, summary);
      runs.push(run_id);
    }
    const [before = 0, after = 0] = runs;
    expect([...await compareFindings(sql, after, before)].sort()).toEqual([
      ["index-gap", { listed: 1, repaired: 0, appeared: 0, gone: 0 }],
      ["stuck-stage", { listed: 4, repaired: 1, appeared: 2, gone: 1 }],
    ]);
    const { rows, next } = await listReconciliationFindings(sql, after, { kind: "stuck-stage", limit: 3 });
    expect(rows.map((row) => v.parse(ReconciliationFinding, row).subject_id)).toEqual(["2", "3", "4"]);
    expect(rows.map(({ repaired_at }) => repaired_at !== null)).toEqual([true, false, false]);
    const rest = await listReconciliationFindings(sql, after, { limit: 3, after: next ?? 0 });
    expect(rest).toMatchObject({ rows: [{ subject_id: "5" }, { kind: "index-gap" }], next: null });
  });
});

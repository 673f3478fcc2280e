import * as v from "valibot";
import { describe, expect } from "vitest";
import { ReconciliationReport } from "../../shared/contracts/reconciliation.ts";
import {
  completeReconciliationRun,
  insertFindings,
  type NewFinding,
  takeReconciliationRun,
} from "../../shared/store/reconciliation.ts";
import { test } from "../support/database.ts";
import { createTestApi } from "./support.ts";

const finding = (task: number): NewFinding => ({
  kind: "missing-outbox-row",
  severity: "error",
  subject_type: "task",
  subject_id: String(task),
  ...{ job_id: null, stage_id: null, task_id: task, transport: null, queue: null },
  ...{ message: "m", suggested_action: "a", repairable: true },
});

describe("POST /api/reconciliation/runs", () => {
  test("asks for a dry run, once, and says where it will be", async ({ sql }) => {
    const api = createTestApi(sql);
    const first = await api.post("/api/reconciliation/runs");
    expect(first).toMatchObject({ status: 202, body: { mode: "dry-run", status: "requested", requested_by: "api" } });
    expect(first.headers.get("location")).toBe(first.body.links.run);
    expect((await api.get(first.body.links.run)).body).toMatchObject({ run_id: first.body.run_id, findings: [] });
    const again = await api.post("/api/reconciliation/runs", '{"mode": "dry-run"}');
    expect(again.body.run_id).toBe(first.body.run_id);
  });

  test("repairs for admins only", async ({ sql }) => {
    const apply = '{"mode": "apply"}';
    expect(await createTestApi(sql).post("/api/reconciliation/runs", apply)).toMatchObject({ status: 403 });
    expect(await createTestApi(sql, { allowAdminRoutes: true }).post("/api/reconciliation/runs", apply))
      .toMatchObject({ status: 202, body: { mode: "apply" } });
    expect(await sql`select mode from reconciliation_runs`).toEqual([{ mode: "apply" }]);
  });

  test.for(['{"mode": "repair"}', '{"apply": true}', "["])("refuses %s", async (body, { sql }) => {
    expect(await createTestApi(sql).post("/api/reconciliation/runs", body)).toMatchObject({ status: 400 });
  });
});

describe("GET /api/reconciliation/runs", () => {
  test("lists runs and their findings by page and kind, as their contract says", async ({ sql }) => {
    const api = createTestApi(sql);
    const runIds: number[] = [];
    for (let run = 0; run < 3; run++) {
      const { body } = await api.post("/api/reconciliation/runs");
      await takeReconciliationRun(sql, "poison-1");
      await insertFindings(sql, body.run_id, [finding(1), finding(2), finding(3)]);
      await completeReconciliationRun(sql, "poison-1", body.run_id, {
        ...{ version: 1, findings: 3, repaired: 0, severities: { error: 3 }, checks: [], queues: [], runners: [] },
        kinds: { "missing-outbox-row": { found: 3, listed: 3, repaired: 0, appeared: 3, gone: 0 } },
        rows: { jobs: 0, stages: 0, tasks: 0, batches: 0 },
        sweep: { repaired_since_previous: null, due: {} },
      });
      runIds.unshift(body.run_id);
    }
    const first = await api.get("/api/reconciliation/runs?limit=2");
    const second = await api.get(`/api/reconciliation/runs?limit=2&cursor=${first.body.next_cursor}`);
    expect([...first.body.runs, ...second.body.runs].map(({ run_id }) => run_id)).toEqual(runIds);
    expect(second.body.next_cursor).toBeNull();

    const path = `/api/reconciliation/runs/${runIds[0]}`;
    const page = v.parse(ReconciliationReport, (await api.get(`${path}?limit=2&kind=missing-outbox-row`)).body);
    const rest = v.parse(ReconciliationReport, (await api.get(`${path}?limit=2&cursor=${page.next_cursor}`)).body);
    expect([...page.findings, ...rest.findings].map(({ subject_id }) => subject_id)).toEqual(["1", "2", "3"]);
    expect((await api.get(`${path}?kind=index-gap`)).body.findings).toEqual([]);
  });

  test.for([["/999", 404], ["/x", 400], ["/1e3", 400]] as const)("%s is %i", async ([path, status], { sql }) => {
    expect(await createTestApi(sql).get(`/api/reconciliation/runs${path}`)).toMatchObject({ status });
  });
});

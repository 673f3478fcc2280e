import type { Sql } from "../../shared/store/database.ts";
import type { KindCounts, ReconciliationSummary } from "../../shared/contracts/reconciliation.ts";
import {
  completeReconciliationRun,
  insertFindings,
  type NewFinding,
  requestReconciliation,
  takeReconciliationRun,
} from "../../shared/store/reconciliation.ts";

export const jobOf = (number: number): string => String(number % 10).repeat(64);

export function finding(number: number, changes: Partial<NewFinding> = {}): NewFinding {
  return {
    kind: "stuck-stage",
    severity: "error",
    subject_type: "stage",
    subject_id: String(number),
    job_id: jobOf(number),
    stage_id: number,
    task_id: null,
    transport: "bullmq",
    queue: null,
    message: `stage 1 of job ${jobOf(number)} is sealed and has nothing open, but was not reduced`,
    suggested_action: "run with apply: its barrier is opened",
    repairable: true,
    ...changes,
  };
}

/** A run that completed with these findings, as a poison-handler would have left it. Returns its id. */
export async function recordRun(
  sql: Sql,
  findings: readonly NewFinding[],
  changes: Partial<ReconciliationSummary> = {},
  counts: Readonly<Record<string, KindCounts>> = {},
): Promise<number> {
  const { run_id } = await requestReconciliation(sql, { mode: "dry-run", requestedBy: "api" });
  await takeReconciliationRun(sql, "poison-1");
  for (let start = 0; start < findings.length; start += 1_000) {
    await insertFindings(sql, run_id, findings.slice(start, start + 1_000));
  }
  await completeReconciliationRun(sql, "poison-1", run_id, {
    version: 1,
    findings: findings.length,
    repaired: 0,
    severities: { error: findings.filter(({ severity }) => severity === "error").length },
    kinds: counts,
    rows: { jobs: 12, stages: 24, tasks: 4_800, batches: 60 },
    checks: [{ name: "stages", duration_ms: 12, skipped: null }],
    queues: [],
    runners: [],
    sweep: { repaired_since_previous: null, due: {} },
    ...changes,
  });
  return run_id;
}

export const countsOf = (found: number, appeared = 0, gone = 0): KindCounts => ({
  found,
  listed: found,
  repaired: 0,
  appeared,
  gone,
});

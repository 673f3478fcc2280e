// `npm run reconcile`: asks for a reconciliation run, waits until a poison-handler has executed it, and prints what was found.
import { setTimeout as sleep } from "node:timers/promises";
import process from "node:process";
import { parseArgs } from "node:util";
import * as v from "valibot";
import type { ReconciliationFinding, ReconciliationRun } from "../../shared/contracts/reconciliation.ts";
import { loadEnvironment, Url } from "../../shared/environment.ts";
import { openDatabase, type Sql } from "../../shared/store/database.ts";
import { formatTable } from "../../shared/table.ts";
import { findReconciliationRun, listReconciliationFindings, requestReconciliation } from "../../shared/store/reconciliation.ts";

const usage = `npm run reconcile -- [--apply] [--json] [--no-wait] [--timeout <seconds>]

  --apply     repair what can be repaired (default: look only)
  --json      print the run and its findings as JSON
  --no-wait   only ask for the run, and print its number
  --timeout   seconds to wait for a poison-handler to execute it (300)

Exit code: 0 nothing was found, 1 something was, 2 the run failed or nobody executed it.`;

/** Findings printed of a kind, unless as JSON. */
const printedPerKind = 10;

interface Options {
  readonly apply: boolean;
  readonly json: boolean;
  readonly wait: boolean;
  readonly timeoutMs: number;
}

function readOptions(): Options | null {
  try {
    const { values } = parseArgs({
      options: {
        apply: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        "no-wait": { type: "boolean", default: false },
        timeout: { type: "string", default: "300" },
        help: { type: "boolean", default: false },
      },
    });
    const seconds = Number(values.timeout);
    if (values.help || !(seconds > 0)) return null;
    return { apply: values.apply, json: values.json, wait: !values["no-wait"], timeoutMs: seconds * 1_000 };
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    return null;
  }
}

async function whenFinished(sql: Sql, runId: number, timeoutMs: number): Promise<ReconciliationRun> {
  for (const giveUpAt = performance.now() + timeoutMs;;) {
    const run = await findReconciliationRun(sql, runId);
    if (!run) throw new Error(`run ${runId} was deleted`);
    if (run.status === "completed" || run.status === "failed") return run;
    if (performance.now() > giveUpAt) {
      throw new Error(
        run.status === "requested"
          ? `no poison-handler has taken run ${runId} within ${timeoutMs / 1_000} s: see that one runs; the request stays`
          : `run ${runId} is still running after ${timeoutMs / 1_000} s`,
      );
    }
    await sleep(250);
  }
}

async function readFindings(sql: Sql, runId: number): Promise<readonly ReconciliationFinding[]> {
  const findings: ReconciliationFinding[] = [];
  for (let after: number | null = 0; after !== null;) {
    const { rows, next }: { rows: readonly ReconciliationFinding[]; next: number | null } = await listReconciliationFindings(
      sql,
      runId,
      {
        limit: 1_000,
        after,
      },
    );
    findings.push(...rows);
    after = next;
  }
  return findings;
}

function printRun(run: ReconciliationRun, findings: readonly ReconciliationFinding[]): void {
  const { run_id, mode, status, summary, error } = run;
  if (!summary) return console.log(`Run ${run_id} (${mode}) ${status}: ${error?.message ?? "no reason was recorded"}`);
  const { rows } = summary;
  console.log(
    `Run ${run_id} (${mode}): ${rows.jobs} jobs, ${rows.stages} stages, ${rows.tasks} tasks, ${rows.batches} batches; ` +
      `${summary.findings} findings, ${summary.repaired} repaired.`,
  );
  const kinds = Object.entries(summary.kinds);
  if (kinds.length > 0) {
    const counts = kinds.map(([kind, { found, repaired, appeared, gone }]) => [kind, found, repaired, appeared, gone]);
    console.log(`\n${formatTable(["kind", "found", "repaired", "appeared", "gone"], counts)}\n`);
  }
  const printed = new Map<string, number>();
  for (const { kind, severity, message, suggested_action, repaired_at } of findings) {
    const number = (printed.get(kind) ?? 0) + 1;
    printed.set(kind, number);
    if (number > printedPerKind) continue;
    console.log(`${severity.padEnd(7)} ${kind}: ${message}\n        ${repaired_at === null ? suggested_action : "repaired"}`);
  }
  for (const { name, skipped } of summary.checks) if (skipped !== null) console.log(`skipped: ${name}: ${skipped}`);
  const repaired = Object.entries(summary.sweep.repaired_since_previous ?? {}).map(([kind, count]) => `${count} ${kind}`);
  if (repaired.length > 0) console.log(`The sweep since run ${run.previous_run}: ${repaired.join(", ")}.`);
}

/** Its exit code. */
async function reconcile(sql: Sql, { apply, json, wait, timeoutMs }: Options): Promise<number> {
  const { run_id } = await requestReconciliation(sql, { mode: apply ? "apply" : "dry-run", requestedBy: "command" });
  if (!wait) {
    console.log(json ? JSON.stringify({ run_id }) : `Run ${run_id} is requested.`);
    return 0;
  }
  const run = await whenFinished(sql, run_id, timeoutMs);
  const findings = await readFindings(sql, run_id);
  if (json) console.log(JSON.stringify({ ...run, findings, next_cursor: null }, null, 2));
  else printRun(run, findings);
  if (run.status === "failed") return 2;
  return (run.summary?.findings ?? 0) > 0 ? 1 : 0;
}

async function run(options: Options): Promise<number> {
  const { DATABASE_URL } = loadEnvironment(v.object({ DATABASE_URL: Url("postgres:", "postgresql:") }), process.env);
  const sql = openDatabase(DATABASE_URL, { applicationName: "reconcile", max: 1 });
  try {
    return await reconcile(sql, options);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

const options = readOptions();
if (!options) {
  console.error(usage);
  process.exitCode = 2;
} else {
  process.exitCode = await run(options).catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : String(error));
    return 2;
  });
}

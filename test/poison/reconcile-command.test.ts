import { execFile } from "node:child_process";
import { pino } from "pino";
import { describe, expect, onTestFinished } from "vitest";
import { createJudge } from "../../services/poison-handler/judge.ts";
import { runExecutor } from "../../services/poison-handler/reconcile/executor.ts";
import type { Sql } from "../../shared/store/database.ts";
import { takeLease } from "../../shared/store/leases.ts";
import { findReconciliationRun, requestReconciliation, takeReconciliationRun } from "../../shared/store/reconciliation.ts";
import { test } from "../support/database.ts";

const log = pino({ level: "silent" });

/** `npm run reconcile`, as its own process. */
async function reconcile(databaseUrl: string, ...args: string[]): Promise<{ code: number; output: string }> {
  const { promise, resolve } = Promise.withResolvers<{ code: number; output: string }>();
  const child = execFile(
    process.execPath,
    ["services/poison-handler/reconcile-command.ts", ...args],
    { env: { PATH: process.env.PATH, DATABASE_URL: databaseUrl } },
    (_, stdout, stderr) => resolve({ code: child.exitCode ?? -1, output: stdout + stderr }),
  );
  return await promise;
}

/** What a poison-handler executes runs with, until the test ends. */
function startExecutor(sql: Sql, id: string): void {
  const stopping = new AbortController();
  const judge = createJudge({ sql, id, graceMs: 0, log });
  const running = runExecutor(
    { sql, id, transports: new Map(), queueNames: new Map(), poisonQueue: undefined, graceMs: 0, judge, log, pauseMs: 10 },
    { intervalMs: 0, idleMs: 20 },
    stopping.signal,
  );
  onTestFinished(async () => {
    stopping.abort();
    await running;
  });
}

async function insertContradiction(sql: Sql): Promise<void> {
  await sql`
    insert into jobs (id, job_type, parameters, processing_path, total_stages, correlation_id, status, ended_at)
    values (${"b".repeat(64)}, 'j', '{}', 'bullmq', 1, 'c', 'completed', now())`;
}

describe("npm run reconcile", () => {
  test("ends with 0 where nothing is found, with 1 where something is, and names it", async ({ sql, database }) => {
    startExecutor(sql, "poison-1");
    const clean = await reconcile(database.url);
    expect(clean).toMatchObject({ code: 0 });
    expect(clean.output).toContain("0 findings");
    await insertContradiction(sql);
    const found = await reconcile(database.url, "--apply");
    expect(found.code).toBe(1);
    expect(found.output).toContain(`result-missing: job ${"b".repeat(64)} completed without a result`);
    const json = await reconcile(database.url, "--json");
    expect(JSON.parse(json.output)).toMatchObject({ mode: "dry-run", findings: [{ kind: "result-missing" }] });
  });

  test("ends with 2 where no poison-handler executes it, and says so; or on bad arguments", async ({ database }) => {
    const lonely = await reconcile(database.url, "--timeout", "0.5");
    expect(lonely).toMatchObject({ code: 2 });
    expect(lonely.output).toContain("no poison-handler has taken run 1");
    expect(await reconcile(database.url, "--repair")).toMatchObject({ code: 2 });
    expect(await reconcile("nowhere")).toMatchObject({ code: 2 });
  });
});

describe("the executor", () => {
  test("fails a run whose executor died, and takes the next", async ({ sql }) => {
    const dead = await requestReconciliation(sql, { mode: "dry-run", requestedBy: "api" });
    await takeLease(sql, "reconciliation", "poison-dead", 300);
    await takeReconciliationRun(sql, "poison-dead");
    const next = await requestReconciliation(sql, { mode: "dry-run", requestedBy: "api" });
    startExecutor(sql, "poison-1");
    await expect.poll(() => findReconciliationRun(sql, next.run_id), { timeout: 20_000 }).toMatchObject({ status: "completed" });
    expect(await findReconciliationRun(sql, dead.run_id)).toMatchObject({ status: "failed", error: { code: "executor-died" } });
  });

  test("of two, one executes a run at a time", async ({ sql }) => {
    startExecutor(sql, "poison-1");
    startExecutor(sql, "poison-2");
    const runIds: number[] = [];
    for (let run = 0; run < 5; run++) {
      runIds.push((await requestReconciliation(sql, { mode: "apply", requestedBy: "api" })).run_id);
    }
    await expect.poll(() => sql`select from reconciliation_runs where status <> 'completed'`, { timeout: 20_000 }).toHaveLength(
      0,
    );
    const overlapping = await sql`
      select from reconciliation_runs as one join reconciliation_runs as other on one.id < other.id
      where one.finished_at > other.started_at`;
    expect(overlapping).toHaveLength(0);
    expect(await sql`select from reconciliation_runs`).toHaveLength(new Set(runIds).size);
  });
});

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { loadConfig } from "../../services/poison-handler/config.ts";
import { runPoisonHandler } from "../../services/poison-handler/run.ts";
import { handleHelloWorldGreeting } from "../../services/task-runner/tasks/hello-world-greeting.ts";
import { handleHelloWorldReply } from "../../services/task-runner/tasks/hello-world-reply.ts";
import { openClaimCheck } from "../../shared/claim-check/open.ts";
import type { ReconciliationFinding, ReconciliationRun } from "../../shared/contracts/reconciliation.ts";
import { helloWorld } from "../../shared/jobs/hello-world.ts";
import { createId } from "../../shared/log.ts";
import type { Sql } from "../../shared/store/database.ts";
import { findUnendedJobs } from "../../shared/store/invariants.ts";
import { findReconciliationRun, listReconciliationFindings, requestReconciliation } from "../../shared/store/reconciliation.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import { startPipeline } from "../support/pipeline.ts";

export interface LoadReport {
  readonly runs: number;
  readonly jobs: number;
  readonly findings: readonly ReconciliationFinding[];
  readonly failedRuns: readonly ReconciliationRun[];
}

/** Reconciles again and again while jobs run that fail now and then, and reports whatever was found. */
export async function reconcileUnderLoad(
  sql: Sql,
  transport: Transport,
  { seconds, pauseMs }: { readonly seconds: number; readonly pauseMs: number },
): Promise<LoadReport> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-reconcile-"));
  const pipeline = await startPipeline({
    sql,
    transport,
    jobs: [helloWorld],
    handlers: [handleHelloWorldGreeting, handleHelloWorldReply],
  });
  const stopping = new AbortController();
  const handler = runPoisonHandler(
    {
      sql,
      id: createId("poison"),
      transports: pipeline.transports,
      queueNames: new Map([[transport.name, Object.values(pipeline.queues)]]),
      claimCheck: openClaimCheck({ directory }),
      log: pino({ level: process.env.TEST_LOG_LEVEL ?? "silent" }),
    },
    loadConfig({ DATABASE_URL: "postgres://unused", GRACE_MS: "5000", RECONCILE_PAUSE_MS: String(pauseMs) }),
    stopping.signal,
  );
  const jobIds: string[] = [];
  const findings: ReconciliationFinding[] = [];
  const failedRuns: ReconciliationRun[] = [];
  let runs = 0;
  try {
    const endAt = performance.now() + seconds * 1_000;
    const submitting = (async () => {
      while (performance.now() < endAt) {
        const serial = jobIds.length;
        const n = [1, 30, 300, 2_000][serial % 4];
        jobIds.push(await pipeline.submit("hello_world", { n, name: `load ${serial}`, failure_rate: 0.1 }));
        while ((await findUnendedJobs(sql)).length >= 6) await sleep(50);
      }
    })();
    while (performance.now() < endAt) {
      const { run_id } = await requestReconciliation(sql, { mode: "dry-run", requestedBy: "command" });
      let run = await findReconciliationRun(sql, run_id);
      for (; run?.status === "requested" || run?.status === "running"; run = await findReconciliationRun(sql, run_id)) {
        await sleep(50);
      }
      if (run?.status === "failed") failedRuns.push(run);
      findings.push(...(await listReconciliationFindings(sql, run_id, { limit: 1_000 })).rows);
      runs++;
    }
    await submitting;
  } finally {
    await pipeline.stop();
    stopping.abort();
    await handler;
    await rm(directory, { recursive: true, force: true });
  }
  return { runs, jobs: jobIds.length, findings, failedRuns };
}

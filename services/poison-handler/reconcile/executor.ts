import { describeError } from "../../../shared/errors.ts";
import { runRounds } from "../../../shared/rounds.ts";
import { dropLease, takeLease } from "../../../shared/store/leases.ts";
import {
  completeReconciliationRun,
  failAbandonedRuns,
  failReconciliationRun,
  isReconciliationWanted,
  requestScheduledReconciliation,
  takeReconciliationRun,
} from "../../../shared/store/reconciliation.ts";
import type { Reconciliation } from "./check.ts";
import { executeRun } from "./execute.ts";

export interface ExecutorOptions {
  /** Between dry runs that nobody asked for; 0: none. */
  readonly intervalMs: number;
  /** Between two looks for a request. */
  readonly idleMs?: number;
}

const leaseName = "reconciliation";
/** How long an executor may go without a word before its run has failed and another takes the next. */
const leaseMs = 15_000;

/** Executes the runs that are requested, one at a time among all poison-handlers, until the signal is aborted. */
export async function runExecutor(
  reconciliation: Reconciliation,
  { intervalMs, idleMs = 1_000 }: ExecutorOptions,
  signal: AbortSignal,
): Promise<void> {
  const { log } = reconciliation;
  await runRounds(() => executeNext(reconciliation, intervalMs, signal), {
    intervalMs: idleMs,
    signal,
    onError(error) {
      if (!signal.aborted) log.warn({ err: error }, "can't reconcile");
    },
  });
}

/** False if nothing is to be done, or another process does it. */
async function executeNext(reconciliation: Reconciliation, intervalMs: number, signal: AbortSignal): Promise<boolean> {
  const { sql, id, log } = reconciliation;
  if (!await isReconciliationWanted(sql, intervalMs) || !await takeLease(sql, leaseName, id, leaseMs)) return false;
  const lost = new AbortController();
  const renew = () =>
    takeLease(sql, leaseName, id, leaseMs).then((ours) => {
      if (!ours) lost.abort(new Error("the lease of reconciliation was lost"));
    }, () => {}); // the next one may succeed; if none does, the run is failed by whoever takes the lease
  const timer = setInterval(renew, leaseMs / 3);
  try {
    for (const runId of await failAbandonedRuns(sql)) log.warn({ runId }, "reconciliation run failed: its executor died");
    if (intervalMs > 0) await requestScheduledReconciliation(sql, intervalMs);
    const run = await takeReconciliationRun(sql, id);
    if (!run) return false;
    const { runId, mode } = run;
    const ids = { runId, mode, ...(run.correlationId !== null && { correlationId: run.correlationId }) };
    log.info(ids, "reconciliation begins");
    const begunAt = performance.now();
    try {
      const summary = await executeRun(reconciliation, run, AbortSignal.any([signal, lost.signal]));
      const isOurs = await completeReconciliationRun(sql, id, runId, summary);
      const { findings, repaired, severities } = summary;
      const level = severities.error ? "error" : severities.warning ? "warn" : "info";
      const durationMs = Math.round(performance.now() - begunAt);
      log[level]({ ...ids, findings, repaired, severities, durationMs, isOurs }, "reconciliation completed");
    } catch (error) {
      log.error({ ...ids, err: error }, "reconciliation failed");
      const code = signal.aborted ? "stopped" : undefined;
      await failReconciliationRun(sql, id, runId, describeError(error, code));
    }
    return true;
  } finally {
    clearInterval(timer);
    await dropLease(sql, leaseName, id).catch(() => {}); // it expires
  }
}

import { setTimeout as sleep } from "node:timers/promises";
import type { FindingKind, ReconciliationSummary, Severity } from "../../../shared/contracts/reconciliation.ts";
import { countDueRepairs, countRepairsOfSweep, countRows, countRunners } from "../../../shared/store/damage/overview.ts";
import { compareFindings, insertFindings, markRepaired, type TakenRun } from "../../../shared/store/reconciliation.ts";
import { type Check, type Finding, type Found, maxListed, type Reconciliation } from "./check.ts";
import { checkAttempts } from "./check-attempts.ts";
import { checkBalance } from "./check-balance.ts";
import { createBrokerCheck } from "./check-brokers.ts";
import { checkEnded } from "./check-ended.ts";
import { checkJobs } from "./check-jobs.ts";
import { checkHints, checkSending } from "./check-outbox.ts";
import { checkOutcomes } from "./check-outcomes.ts";
import { checkPoison } from "./check-poison.ts";
import { checkSchema } from "./check-schema.ts";
import { checkStaffing } from "./check-staffing.ts";
import { checkBarriers, checkStages } from "./check-stages.ts";

/** Repairs of one check in one run: of what there is beyond what is listed, so many times more. */
const maxRounds = 1_000;

/**
 * Executes a run: looks, writes down what it found, and mends it if the run says so. What is in flux is read twice, `pauseMs` apart;
 * the rest is read in between. In memory it holds no more than what it lists, however many rows there are.
 */
export async function executeRun(
  reconciliation: Reconciliation,
  run: TakenRun,
  signal: AbortSignal,
): Promise<ReconciliationSummary> {
  const { sql, graceMs } = reconciliation;
  const brokers = createBrokerCheck();
  const tally = new Tally();

  // In the order in which they are mended: counters before what is decided by them.
  const checks = [
    checkBalance,
    checkEnded,
    checkAttempts,
    checkHints,
    checkSending,
    checkBarriers,
    checkStages,
    checkJobs,
    checkOutcomes,
    checkPoison,
    checkStaffing,
    brokers,
  ];
  await tally.record(
    run.runId,
    reconciliation,
    checkSchema,
    await timed(tally, checkSchema, await checkSchema.begin(reconciliation)),
  );
  if (tally.total === 0) {
    const looks = new Map<Check, () => Promise<Found | { skipped: string }>>();
    for (const check of checks) {
      signal.throwIfAborted();
      looks.set(check, await check.begin(reconciliation));
    }
    const begunAt = performance.now();
    // A check that looks only once needs no pause: whether it was early or late is all the same.
    const [early, late] = [checks.filter((check) => !check.isPatient), checks.filter((check) => check.isPatient)];
    for (const check of [...early, ...late]) {
      if (check === late[0]) {
        await sleep(Math.max(0, begunAt + reconciliation.pauseMs - performance.now()), undefined, { signal });
      }
      signal.throwIfAborted();
      const look = looks.get(check);
      if (look) await tally.record(run.runId, reconciliation, check, await timed(tally, check, look));
    }
    if (run.mode === "apply") {
      for (const check of checks) await mend(reconciliation, tally, check, signal);
    }
  }

  const kinds: Record<string, ReconciliationSummary["kinds"][string]> = {};
  for (const [kind, { listed, appeared, gone }] of await compareFindings(sql, run.runId, run.previousRun)) {
    kinds[kind] = { found: tally.found.get(kind) ?? 0, repaired: tally.repaired.get(kind) ?? 0, listed, appeared, gone };
  }
  return {
    version: 1,
    findings: tally.total,
    repaired: [...tally.repaired.values()].reduce((sum, repaired) => sum + repaired, 0),
    severities: Object.fromEntries(tally.severities),
    kinds,
    rows: { ...await countRows(sql), tasks: tally.tasks },
    checks: tally.checks,
    queues: [...brokers.balances()],
    runners: [...await countRunners(sql)],
    sweep: {
      repaired_since_previous: run.eventsAfter === null ? null : { ...await countRepairsOfSweep(sql, run.eventsAfter) },
      due: { ...await countDueRepairs(sql, graceMs) },
    },
  };
}

/** What a run has found so far. */
class Tally {
  readonly found = new Map<string, number>();
  readonly repaired = new Map<string, number>();
  readonly severities = new Map<Severity, number>();
  readonly checks: { name: string; duration_ms: number; skipped: string | null }[] = [];
  readonly listed = new Map<Check, ReadonlyMap<Finding, number>>();
  tasks = 0;

  get total(): number {
    return [...this.found.values()].reduce((sum, found) => sum + found, 0);
  }

  async record(runId: number, { sql }: Reconciliation, check: Check, found: Found | { skipped: string }): Promise<void> {
    if ("skipped" in found) return;
    this.tasks += found.tasks ?? 0;
    for (const [kind, count] of found.totals) {
      this.found.set(kind, (this.found.get(kind) ?? 0) + count);
      const severity = found.findings.find((finding) => finding.kind === kind)?.severity;
      if (severity) this.severities.set(severity, (this.severities.get(severity) ?? 0) + count);
    }
    if (found.findings.length === 0) return;
    const ids = await insertFindings(sql, runId, found.findings);
    this.listed.set(check, new Map(found.findings.map((finding, position) => [finding, ids[position] ?? 0])));
  }

  count(kind: FindingKind, repaired: number): void {
    this.repaired.set(kind, Math.min((this.repaired.get(kind) ?? 0) + repaired, this.found.get(kind) ?? 0));
  }
}

async function timed<Result extends Found | { skipped: string }>(
  tally: Tally,
  { name }: Check,
  look: () => Promise<Result>,
): Promise<Result> {
  const begunAt = performance.now();
  const result = await look();
  tally.checks.push({
    name,
    duration_ms: Math.round(performance.now() - begunAt),
    skipped: "skipped" in result ? result.skipped : null,
  });
  return result;
}

/** Mends what is listed; of kinds of which there was more, looks again and mends that too, as long as it gets less. */
async function mend(reconciliation: Reconciliation, tally: Tally, check: Check, signal: AbortSignal): Promise<void> {
  const listed = tally.listed.get(check);
  if (!listed || !check.mend) return;
  signal.throwIfAborted();
  let mended = await check.mend(reconciliation, [...listed.keys()].filter(({ repairable }) => repairable));
  await markRepaired(reconciliation.sql, [...mended].flatMap((finding) => listed.get(finding) ?? []));
  for (let round = 1; round < maxRounds; round++) {
    for (const { kind } of mended) tally.count(kind, 1);
    if (mended.size < maxListed) return;
    signal.throwIfAborted();
    const again = await (await check.begin(reconciliation))();
    if ("skipped" in again) return;
    mended = await check.mend(reconciliation, again.findings.filter(({ repairable }) => repairable));
  }
}

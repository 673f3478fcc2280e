import type { Logger } from "pino";
import type { Sql } from "../../shared/store/database.ts";
import { dropLease, takeLease } from "../../shared/store/leases.ts";
import { openNext } from "../../shared/store/open-items.ts";
import { redriveLease, stopRedrive } from "../../shared/store/redrives.ts";
import {
  type ActiveRedrive,
  endRedrive,
  findActiveRedrives,
  type Progress,
  readProgress,
  settleItems,
} from "../../shared/store/settle-items.ts";

export interface Redriver {
  readonly sql: Sql;
  /** Who it is, to the leases. */
  readonly id: string;
  readonly log: Logger;
}

const leaseMs = 3_000;
/** How long one redrive is worked on before the next has its turn; well within the lease. */
const turnMs = 1_000;
const settledAtOnce = 1_000;
/** Outcomes that must be known before their share of failures stops a redrive; a smaller canary counts as soon as it is through. */
const minOutcomes = 10;

/**
 * Works on every redrive that is active and that no other handler holds, for a moment each: opens what is due, notes outcomes, stops
 * what fails too often. Returns whether there was something to do. All it knows is in the rows, so whoever comes next goes on.
 */
export async function redriveOnce(redriver: Redriver, signal: AbortSignal): Promise<boolean> {
  const { sql, id, log } = redriver;
  let moved = false;
  for (const redrive of await findActiveRedrives(sql)) {
    if (signal.aborted) break;
    const lease = redriveLease(redrive.redriveId);
    if (!await takeLease(sql, lease, id, leaseMs)) continue;
    try {
      if (redrive.status === "selecting") {
        await stopAbandoned(redriver, redrive.redriveId);
        await dropLease(sql, lease, id);
        continue;
      }
      if (await workOnRedrive(redriver, redrive, signal)) moved = true;
      if (await endRedrive(sql, redrive.redriveId)) {
        log.info({ redriveId: redrive.redriveId, ...await readProgress(sql, redrive.redriveId) }, "redrive ended");
        await dropLease(sql, lease, id);
      }
    } catch (error) {
      log.warn({ err: error, redriveId: redrive.redriveId }, "redrive can't go on now");
    }
  }
  return moved;
}

/** Whoever froze its selection has let its lease expire. If it was only quicker than this, the redrive is a preview by now. */
async function stopAbandoned({ sql, log }: Redriver, redriveId: number): Promise<void> {
  const reason = "whoever froze its selection is gone: ask for it again";
  const isStopped = await stopRedrive(sql, redriveId, { by: null, reason, from: ["selecting"] });
  if (isStopped) log.error({ redriveId, reason }, "redrive stopped");
}

async function workOnRedrive({ sql, log }: Redriver, redrive: ActiveRedrive, signal: AbortSignal): Promise<boolean> {
  const { redriveId } = redrive;
  const until = performance.now() + turnMs;
  let settled = 0;
  for (let found = settledAtOnce; found === settledAtOnce; settled += found) {
    found = await settleItems(sql, redriveId, settledAtOnce);
  }
  if (redrive.status === "stopped") return settled > 0;
  const progress = await readProgress(sql, redriveId);
  const reason = reasonToStop(redrive, progress);
  if (reason !== null) {
    if (await stopRedrive(sql, redriveId, { by: null, reason })) log.error({ redriveId, ...progress, reason }, "redrive stopped");
    return true;
  }
  let opened = 0;
  let closed = 0;
  for (let allowed = openableNow(redrive, progress); allowed > 0 && performance.now() < until && !signal.aborted;) {
    const opening = await openNext(sql, redriveId, Math.min(allowed, 2_000_000_000));
    if (opening.outcome === "idle") break;
    if (opening.outcome === "closed") closed += 1;
    if (opening.outcome !== "opened") continue;
    opened += opening.opened;
    allowed -= opening.opened;
  }
  if (opened > 0) log.info({ redriveId, items: opened }, "items redriven");
  return settled + opened + closed > 0;
}

/** As many as the canary has left; none until all of it has ended; then all. */
function openableNow({ canary }: ActiveRedrive, { opened, ...ended }: Progress): number {
  const settled = ended.succeeded + ended.failedAgain + ended.cancelled;
  if (settled >= canary) return Infinity;
  return Math.max(0, canary - settled - opened);
}

function reasonToStop({ canary, maxFailureShare }: ActiveRedrive, { succeeded, failedAgain }: Progress): string | null {
  const outcomes = succeeded + failedAgain;
  const enough = canary > 0 ? Math.min(canary, minOutcomes) : minOutcomes;
  if (outcomes < enough || failedAgain <= maxFailureShare * outcomes) return null;
  return `${failedAgain} of ${outcomes} failed again, more than a share of ${maxFailureShare}`;
}

import { findDeadRunners, findZombies } from "../../../shared/store/damage/open-rows.ts";
import { runnerLeaseMs } from "../../../shared/store/runners.ts";
import { readUptimeMs } from "../../../shared/store/sweep.ts";
import { interruptTasks } from "../../../shared/store/tasks.ts";
import type { TransportName } from "../../../shared/transports.ts";
import { type Check, type Found, found, lateMs, maxListed, sliceSize, together, twice } from "./check.ts";

/** Attempts that nobody runs any more, and the runners that left them. */
export const checkAttempts: Check = {
  name: "attempts and their runners",
  ...twice(async ({ sql, graceMs }): Promise<Found | { skipped: string }> => {
    if (await readUptimeMs(sql) < runnerLeaseMs) return { skipped: "the database was away: leases could not be renewed" };
    return together([
      found("zombie-attempt", await findZombies(sql, { graceMs, lateMs, limit: maxListed }), (attempt) => ({
        severity: "error",
        subject_type: "task",
        subject_id: attempt.taskId,
        job_id: attempt.jobId,
        stage_id: attempt.stageId,
        task_id: attempt.taskId,
        message:
          `attempt ${attempt.attempt} of task ${attempt.taskId} of job ${attempt.jobId} by ${attempt.runnerId} has lost its lease, or outlived its time-out`,
        suggested_action: "apply: an interruption, as the sweep does; see that an orchestrator runs",
        repairable: true,
        evidence: attempt.claimId,
      })),
      found("dead-runner", await findDeadRunners(sql, { lateMs, limit: maxListed }), (runner) => ({
        severity: "warning",
        subject_type: "runner",
        subject_id: runner.runnerId,
        transport: runner.transport as TransportName,
        queue: runner.queue,
        message:
          `runner ${runner.runnerId} has not renewed its lease since ${runner.leaseUntil}, and ${runner.tasks} attempts run under it`,
        suggested_action: "apply: interrupts its attempts, as the sweep does; see why it died",
        repairable: true,
        evidence: runner.leaseUntil,
      })),
    ]);
  }),
  async mend({ sql, id, graceMs }, findings) {
    const freed = new Set<string>();
    for (let last = sliceSize; last === sliceSize;) {
      const { recorded } = await interruptTasks(sql, id, { graceMs, limit: sliceSize });
      last = recorded.size;
      if (freed.size < 2 * maxListed) { for (const claimId of recorded.keys()) freed.add(claimId); }
    }
    const { rows: stillDead } = await findDeadRunners(sql, { lateMs, limit: maxListed });
    const dead = new Set(stillDead.map(({ runnerId }) => runnerId));
    return new Set(
      findings.filter(({ kind, subject_id, evidence }) =>
        kind === "dead-runner" ? !dead.has(subject_id) : freed.has(JSON.parse(evidence))
      ),
    );
  },
};

import { listStageSlices } from "../../../shared/store/damage/balance.ts";
import { findUnhintedTasks } from "../../../shared/store/damage/open-rows.ts";
import { findOrphanBatches, findUnsentBatches } from "../../../shared/store/damage/outbox-rows.ts";
import { deleteOrphanBatches, hintUnhintedTasks, unlockBatches } from "../../../shared/store/damage/repairs.ts";
import { type Check, type Found, found, lateMs, maxListed, mendedOf, once, subjectIds, together, twice } from "./check.ts";

/** Tasks that wait without a hint, and hints without a task. */
export const checkHints: Check = {
  name: "hints in the outbox",
  ...once(async ({ sql }) => {
    const parts: Found[] = [];
    for (const slice of await listStageSlices(sql, { onlyAlive: true })) {
      parts.push(found("missing-outbox-row", await findUnhintedTasks(sql, slice, maxListed), (task) => ({
        severity: "error",
        subject_type: "task",
        subject_id: task.taskId,
        job_id: task.jobId,
        stage_id: task.stageId,
        task_id: task.taskId,
        message:
          `task ${task.taskId} of job ${task.jobId} waits, but row ${task.outboxId} of the outbox, which should carry its hint, does not`,
        suggested_action: "apply: writes a new hint",
        repairable: true,
      })));
    }
    parts.push(found("orphan-outbox", await findOrphanBatches(sql, maxListed), (batch) => ({
      severity: "warning",
      subject_type: "batch",
      subject_id: batch.outboxId,
      job_id: batch.jobId,
      stage_id: batch.stageId,
      message: `batch ${batch.batchId} waits to be sent, but none of its tasks is there`,
      suggested_action: "apply: deletes the batch",
      repairable: true,
    })));
    return together(parts);
  }),
  async mend({ sql }, findings) {
    const [tasks, batches] = [
      findings.filter(({ kind }) => kind === "missing-outbox-row"),
      findings.filter(({ kind }) => kind === "orphan-outbox"),
    ];
    return new Set([
      ...mendedOf(tasks, await hintUnhintedTasks(sql, subjectIds(tasks))),
      ...mendedOf(batches, await deleteOrphanBatches(sql, subjectIds(batches))),
    ]);
  },
};

/** Batches that nobody sends. */
export const checkSending: Check = {
  name: "sending of batches",
  ...twice(async ({ sql }) =>
    found("unsent-batch", await findUnsentBatches(sql, { lateMs, limit: maxListed }), (batch) => ({
      severity: "warning",
      subject_type: "batch",
      subject_id: batch.outboxId,
      job_id: batch.jobId,
      stage_id: batch.stageId,
      transport: batch.transport,
      queue: batch.queue,
      message: `batch ${batch.batchId} (${batch.kind}) is due and not sent to ${batch.queue} on ${batch.transport}` +
        (batch.isLockedTooLong ? "; it is locked for longer than any sender may" : "") +
        (batch.lastError === null ? "" : `: ${batch.lastError}`),
      suggested_action: batch.isLockedTooLong
        ? "apply: unlocks the batch, and a relay sends it"
        : `see that an orchestrator runs which serves ${batch.transport}, and that its broker answers`,
      repairable: batch.isLockedTooLong,
      evidence: batch.sends,
    }))
  ),
  async mend({ sql }, findings) {
    return mendedOf(findings, await unlockBatches(sql, subjectIds(findings)));
  },
};

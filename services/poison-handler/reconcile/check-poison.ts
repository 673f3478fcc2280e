import { findUnjudgedPoison, findUnrecordedFailures } from "../../../shared/store/damage/poison-rows.ts";
import { type Check, type Finding, found, lateMs, maxListed, once, together } from "./check.ts";

/** Poison messages without a verdict, and failures that no poison record tells of. */
export const checkPoison: Check = {
  name: "poison records",
  ...once(async ({ sql }) =>
    together([
      found("poison-unjudged", await findUnjudgedPoison(sql, { lateMs, limit: maxListed }), (poison) => ({
        severity: "warning",
        subject_type: "poison-message",
        subject_id: poison.poisonId,
        job_id: poison.jobId,
        transport: poison.transport,
        queue: poison.queue,
        message: `poison message ${poison.poisonId} of ${poison.queue} on ${poison.transport} was recorded and not judged`,
        suggested_action: "apply: judges it; see the log of the poison-handler for why it wasn't",
        repairable: true,
      })),
      found("failed-without-poison-record", await findUnrecordedFailures(sql, maxListed), ({ taskId, stageId, jobId }) => ({
        severity: "info",
        subject_type: "task",
        subject_id: taskId,
        job_id: jobId,
        stage_id: stageId,
        task_id: taskId,
        message: `task ${taskId} of job ${jobId} failed, and no poison record names it`,
        suggested_action:
          "none is needed: the row says why it failed; its runner may have died before it dead-lettered the message",
      })),
    ])
  ),
  async mend({ judge, log }, findings) {
    const mended = new Set<Finding>();
    for (const finding of findings) {
      if (finding.kind !== "poison-unjudged") continue;
      const poisonId = Number(finding.subject_id);
      await judge(poisonId).then(
        () => mended.add(finding),
        (error: unknown) => log.warn({ err: error, poisonId }, "poison not judged"),
      );
    }
    return mended;
  },
};

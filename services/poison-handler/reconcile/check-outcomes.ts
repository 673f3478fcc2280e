import { findContradictions, findJobsWithoutResult } from "../../../shared/store/damage/balance.ts";
import { type Check, found, maxListed, once, together } from "./check.ts";

/** Ends of jobs and openings of barriers that contradict what they stand on. */
export const checkOutcomes: Check = {
  name: "outcomes",
  ...once(async ({ sql }) =>
    together([
      found("contradiction", await findContradictions(sql, maxListed), ({ jobId, stageId, what }) => ({
        severity: "error",
        subject_type: stageId === null ? "job" : "stage",
        subject_id: stageId ?? jobId,
        job_id: jobId,
        stage_id: stageId,
        message: `${what}: job ${jobId}${stageId === null ? "" : `, stage ${stageId}`}`,
        suggested_action: "read the job's events; submit it again if its result can't be trusted",
      })),
      found("result-missing", await findJobsWithoutResult(sql, maxListed), ({ jobId }) => ({
        severity: "error",
        subject_type: "job",
        subject_id: jobId,
        job_id: jobId,
        message: `job ${jobId} completed without a result`,
        suggested_action: "submit the job again",
      })),
    ])
  ),
};

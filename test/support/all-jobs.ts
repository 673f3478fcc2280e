import { createAllJobs } from "../../shared/jobs/all.ts";

/** Every job type, in settings that let a test wait for retries. */
export const { jobs: allJobs, assessment } = createAllJobs({
  assessment: {
    scoringQueue: "scoring-jobs",
    reportQueue: "report-jobs",
    attempts: 3,
    retryDelayMs: 50,
    deadlineMs: 60_000,
  },
});

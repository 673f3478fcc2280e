import type { Assessment } from "../../../shared/jobs/assessment.ts";
import type { Judges } from "../assessment/judges.ts";
import { defineHandler, type TaskHandler } from "../task-handler.ts";

export function createAssessmentHandlers(
  { scoreSubmission, writeReport }: Assessment,
  { score, report }: Judges,
): readonly TaskHandler[] {
  return [
    defineHandler(scoreSubmission, (submission, { signal }) => score(submission, signal)),
    defineHandler(writeReport, (scored, { signal }) => report(scored, signal)),
  ];
}

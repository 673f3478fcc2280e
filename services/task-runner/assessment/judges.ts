import { Report, Score, type ScoredSubmission, type Submission } from "../../../shared/jobs/assessment.ts";
import { createHttpJudge } from "./http-judge.ts";
import { writeMarkdownReport } from "./markdown-reporter.ts";
import { scoreByRubric } from "./rubric-scorer.ts";

/** Who scores an assessment, and who reports on it. Both throw PermanentError where no retry can succeed. */
export interface Judges {
  score(submission: Submission, signal: AbortSignal): Promise<Score>;
  report(scored: ScoredSubmission, signal: AbortSignal): Promise<Report>;
}

export interface JudgeSettings {
  readonly ASSESSMENT_SCORER_URL?: string | undefined;
  readonly ASSESSMENT_REPORTER_URL?: string | undefined;
  readonly ASSESSMENT_TIMEOUT_MS: number;
}

/** The services at these addresses; without one, what comes with the submission and the score. */
export function createJudges(
  { ASSESSMENT_SCORER_URL, ASSESSMENT_REPORTER_URL, ASSESSMENT_TIMEOUT_MS: timeoutMs }: JudgeSettings,
): Judges {
  return {
    score: ASSESSMENT_SCORER_URL
      ? createHttpJudge<Submission, typeof Score>(ASSESSMENT_SCORER_URL, Score, { timeoutMs })
      : async (submission) => scoreByRubric(submission),
    report: ASSESSMENT_REPORTER_URL
      ? createHttpJudge<ScoredSubmission, typeof Report>(ASSESSMENT_REPORTER_URL, Report, { timeoutMs })
      : async (scored) => writeMarkdownReport(scored),
  };
}

import * as v from "valibot";
import { JsonObject } from "../contracts/parse.ts";
import { defineJob, type JobDefinition } from "./define-job.ts";
import { defineTask, type TaskDefinition } from "./define-task.ts";

const Name = v.pipe(v.string(), v.regex(/^[\w.:-]{1,200}$/, "must be 1 to 200 letters, digits, _ . : -"));
const Points = v.pipe(v.number(), v.minValue(0), v.maxValue(1_000_000));
const Text = (length: number) => v.pipe(v.string(), v.minLength(1), v.maxLength(length));

/** How an answer earns its points. */
const Question = v.variant("kind", [
  /** One or several options: each right one earns its share, each wrong one costs as much; never less than nothing. */
  v.object({
    kind: v.literal("choice"),
    question_id: Name,
    points: Points,
    correct: v.pipe(v.array(Text(500)), v.minLength(1), v.maxLength(100)),
  }),
  /** All points within the tolerance, none beyond it. */
  v.object({
    kind: v.literal("number"),
    question_id: Name,
    points: Points,
    expected: v.number(),
    tolerance: v.optional(v.pipe(v.number(), v.minValue(0)), 0),
  }),
  /** Each criterion is met by any of its words or phrases; the points of all that are met, at most those of the question. */
  v.object({
    kind: v.literal("text"),
    question_id: Name,
    points: Points,
    criteria: v.pipe(
      v.array(v.object({ name: Text(200), points: Points, any_of: v.pipe(v.array(Text(200)), v.minLength(1), v.maxLength(50)) })),
      v.minLength(1),
      v.maxLength(50),
    ),
  }),
]);
export type Question = v.InferOutput<typeof Question>;

const Answer = v.union([v.pipe(v.string(), v.maxLength(20_000)), v.number(), v.pipe(v.array(v.string()), v.maxLength(100))]);
export type Answer = v.InferOutput<typeof Answer>;

const Submission = v.object({
  submission_id: Name,
  questions: v.pipe(
    v.array(Question),
    v.minLength(1),
    v.maxLength(500),
    v.check(
      (questions) => new Set(questions.map(({ question_id }) => question_id)).size === questions.length,
      "has a question_id twice",
    ),
  ),
  /** By question_id; a question without an answer earns nothing. */
  answers: v.record(Name, Answer),
  /** Percent of all points with which it is passed. */
  pass_percent: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(100)), 50),
  /** Passed through to score, report and result. */
  metadata: v.optional(JsonObject, {}),
});
export type Submission = v.InferOutput<typeof Submission>;

export const Score = v.object({
  points: v.number(),
  max_points: v.number(),
  percent: v.pipe(v.number(), v.minValue(0), v.maxValue(100)),
  passed: v.boolean(),
  scorer: v.string(),
  questions: v.array(v.object({ question_id: v.string(), points: v.number(), max_points: v.number(), feedback: v.string() })),
});
export type Score = v.InferOutput<typeof Score>;

export const Report = v.object({
  summary: v.string(),
  strengths: v.array(v.string()),
  gaps: v.array(v.string()),
  markdown: v.string(),
});
export type Report = v.InferOutput<typeof Report>;

const ScoredSubmission = v.object({ submission_id: Name, score: Score, metadata: JsonObject });
export type ScoredSubmission = v.InferOutput<typeof ScoredSubmission>;

export interface AssessmentSettings {
  readonly scoringQueue: string;
  readonly reportQueue: string;
  /** In all, of each stage's task. */
  readonly attempts: number;
  readonly retryDelayMs: number;
  /** Of each stage. */
  readonly deadlineMs: number;
}

export interface Assessment {
  readonly job: JobDefinition;
  readonly scoreSubmission: TaskDefinition<Submission, Score>;
  readonly writeReport: TaskDefinition<ScoredSubmission, Report>;
}

export const assessmentType = "assessment";

/** What makes two submissions of an assessment the same job, whatever transport they name. */
export function assessmentIdentity(submissionId: string): JsonObject {
  return { submission_id: submissionId };
}

/** A candidate's submission is scored, then reported on: one job for each `submission_id`. */
export function createAssessment(settings: AssessmentSettings): Assessment {
  const { scoringQueue, reportQueue, attempts, retryDelayMs, deadlineMs } = settings;
  const limits = { retry: { maxFailures: attempts, backoffMs: retryDelayMs, maxBackoffMs: retryDelayMs }, timeoutMs: 300_000 };
  const scoreSubmission = defineTask({ type: "score_submission", params: Submission, result: Score, ...limits });
  const writeReport = defineTask({ type: "write_report", params: ScoredSubmission, result: Report, ...limits });
  const job = defineJob({
    type: assessmentType,
    description: "scores a candidate's answers, then writes a report",
    params: Submission,
    identity: ({ submission_id }) => assessmentIdentity(submission_id),
    estimateTasks: () => 2,
    stages: [
      {
        name: "scoring",
        task: scoreSubmission,
        queue: scoringQueue,
        deadlineMs,
        plan: ({ parameters }) => [parameters],
        async reduce({ outcomes }) {
          for await (const { result } of outcomes()) if (result) return { score: result };
          return {};
        },
      },
      {
        name: "report",
        task: writeReport,
        queue: reportQueue,
        deadlineMs,
        plan: ({ parameters: { submission_id, metadata }, earlier }) => [
          { submission_id, metadata, score: earlier[0]?.result.metadata.score },
        ],
        async reduce({ outcomes }) {
          for await (const { result } of outcomes()) if (result) return { report: result };
          return {};
        },
      },
    ],
    finalize: ({ parameters: { submission_id, metadata }, earlier }) => ({
      submission_id,
      metadata,
      score: earlier[0]?.result.metadata.score,
      report: earlier[1]?.result.metadata.report,
    }),
  });
  return { job, scoreSubmission, writeReport };
}

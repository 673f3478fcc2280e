import type { Report, ScoredSubmission } from "../../../shared/jobs/assessment.ts";

/** What a score says, in words: from the score alone. */
export function writeMarkdownReport({ submission_id, score }: ScoredSubmission): Report {
  const strengths = score.questions.filter(({ points, max_points }) => max_points > 0 && points === max_points);
  const gaps = score.questions.filter(({ points, max_points }) => points < max_points);
  const summary = `${score.points} of ${score.max_points} points (${score.percent} %): ${
    score.passed ? "passed" : "not passed"
  }.`;
  const rows = score.questions.map(({ question_id, points, max_points, feedback }) =>
    `| ${escape(question_id)} | ${points} | ${max_points} | ${escape(feedback)} |`
  );
  const list = (title: string, questions: typeof gaps) =>
    questions.length === 0
      ? []
      : ["", `## ${title}`, "", ...questions.map(({ question_id, feedback }) => `- ${escape(question_id)}: ${escape(feedback)}`)];
  return {
    summary,
    strengths: strengths.map(({ question_id }) => question_id),
    gaps: gaps.map(({ question_id, feedback }) => `${question_id}: ${feedback}`),
    markdown: [
      `# Assessment ${escape(submission_id)}`,
      "",
      summary,
      "",
      "| question | points | of | feedback |",
      "| --- | ---: | ---: | --- |",
      ...rows,
      ...list("Strengths", strengths),
      ...list("Gaps", gaps),
      "",
    ].join("\n"),
  };
}

/** Text of others: no markup of its own, and in one line. */
function escape(text: string): string {
  return text.replace(/\s+/g, " ").replace(/[\\`*_{}[\]<>()#+!|~-]/g, "\\$&");
}

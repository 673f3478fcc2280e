import type { Answer, Question, Score, Submission } from "../../../shared/jobs/assessment.ts";

interface Earned {
  readonly points: number;
  readonly feedback: string;
}

/** Scores each answer by the rubric of its question, without any judgement of its own. Points are rounded to hundredths. */
export function scoreByRubric({ questions, answers, pass_percent }: Submission): Score {
  const scored = questions.map((question) => {
    const answer = answers[question.question_id];
    const { points, feedback } = answer === undefined ? { points: 0, feedback: "no answer" } : score(question, answer);
    return { question_id: question.question_id, points: round(points), max_points: question.points, feedback };
  });
  const points = round(sum(scored.map((question) => question.points)));
  const maxPoints = round(sum(scored.map((question) => question.max_points)));
  const percent = maxPoints === 0 ? 0 : Math.min(100, round(points / maxPoints * 100));
  return { points, max_points: maxPoints, percent, passed: percent >= pass_percent, scorer: "rubric", questions: scored };
}

function score(question: Question, answer: Answer): Earned {
  switch (question.kind) {
    case "choice":
      return scoreChoice(question, answer);
    case "number":
      return scoreNumber(question, answer);
    case "text":
      return scoreText(question, answer);
  }
}

function scoreChoice({ correct, points }: Extract<Question, { kind: "choice" }>, answer: Answer): Earned {
  const wanted = new Set(correct.map(normalize));
  const chosen = new Set((Array.isArray(answer) ? answer : [String(answer)]).map(normalize));
  const right = [...chosen].filter((option) => wanted.has(option)).length;
  const wrong = chosen.size - right;
  return {
    points: points * Math.max(0, right - wrong) / wanted.size,
    feedback: `${right} of ${wanted.size} right${wrong > 0 ? `, ${wrong} wrong` : ""}`,
  };
}

function scoreNumber({ expected, tolerance, points }: Extract<Question, { kind: "number" }>, answer: Answer): Earned {
  const given = typeof answer === "number" ? answer : typeof answer === "string" && answer.trim() !== "" ? Number(answer) : NaN;
  if (!Number.isFinite(given)) return { points: 0, feedback: "not a number" };
  // Decimal fractions aren't exact: a difference that equals the tolerance must count as within it.
  const within = Math.abs(given - expected) <= tolerance + 1e-9 * Math.max(1, Math.abs(expected));
  return within ? { points, feedback: "right" } : { points: 0, feedback: "wrong" };
}

function scoreText({ criteria, points }: Extract<Question, { kind: "text" }>, answer: Answer): Earned {
  const text = ` ${normalize(Array.isArray(answer) ? answer.join(" ") : String(answer))} `;
  const met = criteria.filter(({ any_of }) => any_of.some((phrase) => text.includes(` ${normalize(phrase)} `)));
  const missed = criteria.filter((criterion) => !met.includes(criterion));
  return {
    points: Math.min(points, sum(met.map((criterion) => criterion.points))),
    feedback: missed.length === 0 ? "every criterion met" : `missed: ${missed.map(({ name }) => name).join(", ")}`,
  };
}

/** Words in small letters, with one space between them: case and punctuation don't count. */
function normalize(text: string): string {
  return text.normalize("NFKC").toLowerCase().match(/[\p{L}\p{N}]+/gu)?.join(" ") ?? "";
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function round(value: number): number {
  return Math.round((value + Number.EPSILON) * 100) / 100;
}

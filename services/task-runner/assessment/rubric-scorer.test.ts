import * as v from "valibot";
import { expect, test } from "vitest";
import { assessment } from "../../../test/support/all-jobs.ts";
import { writeMarkdownReport } from "./markdown-reporter.ts";
import { scoreByRubric } from "./rubric-scorer.ts";

const capital = { kind: "choice", question_id: "capital", points: 2, correct: ["Paris"] };
const primes = { kind: "choice", question_id: "primes", points: 4, correct: ["2", "3", "5", "7"] };
const pi = { kind: "number", question_id: "pi", points: 3, expected: 3.14, tolerance: 0.01 };
const water = {
  kind: "text",
  question_id: "water",
  points: 5,
  criteria: [
    { name: "evaporation", points: 2, any_of: ["evaporation", "evaporates"] },
    { name: "condensation", points: 2, any_of: ["condensation", "condenses", "clouds form"] },
    { name: "rain", points: 2, any_of: ["rain", "precipitation"] },
  ],
};
const all = [capital, primes, pi, water]; // 14 points

/** Answers, and the points they earn: worked out by hand from the rules in docs/assessment.md. */
const submissions: readonly (readonly [
  what: string,
  questions: readonly object[],
  answers: object,
  points: readonly number[],
  percent: number,
])[] = [
  [
    "everything right",
    all,
    { capital: "Paris", primes: ["2", "3", "5", "7"], pi: 3.14, water: "Evaporation, condensation, rain." },
    [2, 4, 3, 5],
    100,
  ],
  ["nothing answered", all, {}, [0, 0, 0, 0], 0],
  ["the wrong option", [capital], { capital: "London" }, [0], 0],
  ["the right option in other letters", [capital], { capital: "  paris " }, [2], 100],
  ["the right option in a list", [capital], { capital: ["Paris"] }, [2], 100],
  ["the right option and a wrong one", [capital], { capital: ["Paris", "London"] }, [0], 0],
  ["three of four options", [primes], { primes: ["2", "3", "5"] }, [3], 75],
  ["three of four options and one that is wrong", [primes], { primes: ["2", "3", "5", "9"] }, [2], 50],
  ["one option and two that are wrong", [primes], { primes: ["2", "4", "6"] }, [0], 0],
  ["an option twice counts once", [primes], { primes: ["2", "2"] }, [1], 25],
  ["a number at the edge of the tolerance", [pi], { pi: 3.15 }, [3], 100],
  ["a number beyond the tolerance", [pi], { pi: 3.16 }, [0], 0],
  ["a number as text", [pi], { pi: "3.139" }, [3], 100],
  ["a word for a number", [pi], { pi: "three" }, [0], 0],
  ["one criterion of three", [water], { water: "It evaporates." }, [2], 40],
  ["two criteria of three", [water], { water: "Water evaporates and then CLOUDS form." }, [4], 80],
  ["more criteria than points", [water], { water: "evaporates, condenses, precipitation" }, [5], 100],
  ["a part of a word is not the word", [water], { water: "The train was a condensation of terrain." }, [2], 40],
  ["an empty text", [water], { water: "" }, [0], 0],
  ["some right, some wrong", all, { capital: "Paris", primes: ["2", "3"], pi: 3, water: "rain" }, [2, 2, 0, 2], 42.86],
];

test("there are twenty of them", () => expect(submissions).toHaveLength(20));

test.each(submissions)("%s", (_, questions, answers, points, percent) => {
  const submission = v.parse(assessment.scoreSubmission.params, { submission_id: "s-1", questions, answers });
  const score = scoreByRubric(submission);
  expect(score.questions.map((question) => question.points)).toEqual(points);
  expect(score).toMatchObject({ percent, passed: percent >= 50, scorer: "rubric" });
  expect(v.is(assessment.scoreSubmission.result, score)).toBe(true);
});

test("a report says what the score does, and its text is no markup", () => {
  const score = {
    points: 2,
    max_points: 4,
    percent: 50,
    passed: true,
    scorer: "rubric",
    questions: [
      { question_id: "q1", points: 2, max_points: 2, feedback: "right" },
      { question_id: "q2", points: 0, max_points: 2, feedback: "missed: <b>a|b</b>\n# c" },
    ],
  };
  const report = writeMarkdownReport({ submission_id: "s_1", score, metadata: {} });
  expect(report).toMatchObject({ summary: "2 of 4 points (50 %): passed.", strengths: ["q1"] });
  expect(report.markdown).toContain("# Assessment s\\_1\n");
  expect(report.markdown).toContain("| q2 | 0 | 2 | missed: \\<b\\>a\\|b\\</b\\> \\# c |");
});

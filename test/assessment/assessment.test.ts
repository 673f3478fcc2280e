import { expect, onTestFinished } from "vitest";
import { startServiceBusBroker } from "../../dev/service-bus-broker/start.ts";
import { createAssessmentHandlers } from "../../services/task-runner/tasks/assessment.ts";
import { createJudges, type Judges } from "../../services/task-runner/assessment/judges.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { openServiceBusTransport } from "../../shared/transport/service-bus.ts";
import { createTestApi } from "../api/support.ts";
import { allJobs, assessment } from "../support/all-jobs.ts";
import { test } from "../support/database.ts";
import { startPipeline, whenEnded } from "../support/pipeline.ts";

const submit = "/api/jobs/submit/assessment";
const questions = [
  { kind: "number", question_id: "sum", points: 6, expected: 42 },
  { kind: "choice", question_id: "colours", points: 4, correct: ["red", "blue"] },
];
const submission = (id: string, answers: object) =>
  JSON.stringify({
    submission_id: id,
    questions,
    answers,
    metadata: { assessment_id: `a-${id}` },
  });
const judges = createJudges({ ASSESSMENT_TIMEOUT_MS: 1_000 });

test("twenty submissions at once: each is scored and reported on once, on queues of their own", async ({ sql }) => {
  const broker = await startServiceBusBroker();
  onTestFinished(() => broker.stop());
  const transport = openServiceBusTransport(broker);
  let firstTry = true;
  const flaky: Judges = {
    ...judges,
    async report(scored, signal) {
      if (scored.submission_id === "s-3" && firstTry) {
        firstTry = false;
        throw new Error("the reporter was not there");
      }
      return await judges.report(scored, signal);
    },
  };
  const pipeline = await startPipeline({
    sql,
    transport,
    jobs: allJobs,
    handlers: createAssessmentHandlers(assessment, flaky),
  });
  const api = createTestApi(sql, { transports: pipeline.transports });
  const ids = Array.from({ length: 20 }, (_, serial) => `s-${serial}`);
  // Every other one has both colours.
  const answersOf = (serial: number) => ({ sum: serial < 10 ? 42 : 41, colours: serial % 2 === 0 ? ["red", "blue"] : ["red"] });
  const answers = await Promise.all(ids.map((id, serial) => api.post(submit, submission(id, answersOf(serial)))));
  expect(answers.map(({ status }) => status)).toEqual(ids.map(() => 202));

  for (const [serial, id] of ids.entries()) {
    const jobId = answers[serial]?.body.job_id;
    expect(await whenEnded(sql, jobId)).toMatchObject({ status: "completed", error: null });
    const points = (serial < 10 ? 6 : 0) + (serial % 2 === 0 ? 4 : 2);
    const { status, body } = await api.get(`/api/assessments/${id}/report`);
    expect(status).toBe(200);
    expect(body).toMatchObject({
      job_id: jobId,
      submission_id: id,
      metadata: { assessment_id: `a-${id}` },
      score: { points, max_points: 10, percent: points * 10, passed: points >= 5 },
      report: { summary: expect.stringContaining(`${points} of 10 points`) },
    });
  }
  const queues = await sql`
    select queue, count(*)::int as stages, sum(completed)::int as tasks from stages group by queue order by queue`;
  expect(queues).toEqual([{ queue: "report-jobs", stages: 20, tasks: 20 }, { queue: "scoring-jobs", stages: 20, tasks: 20 }]);

  for (const [path, accept] of [["?format=markdown", "*/*"], ["", "text/markdown"]] as const) {
    const { headers, body } = await api.get(`/api/assessments/s-0/report${path}`, { accept });
    expect(headers.get("content-type")).toBe("text/markdown; charset=utf-8");
    expect(body).toContain("# Assessment s\\-0\n\n10 of 10 points (100 %): passed.");
  }
  expect(await findViolations(sql)).toEqual([]);
  await pipeline.stop();
  await transport.close();
});

test("one submission_id is one job, whatever transport is named; other answers under it are refused", async ({ sql }) => {
  const api = createTestApi(sql);
  const first = await api.post(submit, submission("s-1", { sum: 42 }));
  expect(first.status).toBe(202);
  const again = await api.post(
    submit,
    JSON.stringify({ ...JSON.parse(submission("s-1", { sum: 42 })), transport: "storage_queue" }),
  );
  expect(again).toMatchObject({ status: 200, body: { job_id: first.body.job_id } });
  expect(await api.post(submit, submission("s-1", { sum: 43 }))).toMatchObject({
    status: 409,
    body: { type: "urn:sluice:problem:job-conflict", job_id: first.body.job_id },
  });
  expect(await api.get("/api/assessments/s-1/report")).toMatchObject({ status: 409, body: { job_status: "queued" } });
  expect((await api.get("/api/assessments/s-2/report")).status).toBe(404);
  expect((await api.get("/api/assessments/s-1/report?format=pdf")).body.errors).toMatchObject([{ field: "format" }]);
});

test.for(
  [
    [{ submission_id: "a b", questions, answers: {} }, "submission_id"],
    [{ submission_id: "s", questions: [], answers: {} }, "questions"],
    [{ submission_id: "s", questions: [questions[0], questions[0]], answers: {} }, "questions"],
    [{ submission_id: "s", questions: [{ kind: "essay" }], answers: {} }, "questions.0.kind"],
    [{ submission_id: "s", questions, answers: { sum: null } }, "answers.sum"],
    [{ submission_id: "s", questions }, "answers"],
    [{ submission_id: "s", questions, answers: {}, pass_percent: 101 }, "pass_percent"],
  ] as const,
)("%o is refused, naming %s", async ([body, field], { sql }) => {
  const answer = await createTestApi(sql).post(submit, JSON.stringify(body));
  expect(answer.status).toBe(400);
  expect(answer.body.errors.map((error: { field: string }) => error.field)).toContain(field);
});

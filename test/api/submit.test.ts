import { describe, expect } from "vitest";
import { findViolations } from "../../shared/store/invariants.ts";
import { renewRunner } from "../../shared/store/runners.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import { test } from "../support/database.ts";
import { createTestApi, sha256 } from "./support.ts";

const submit = "/api/jobs/submit/hello_world";

describe("the id of a job", () => {
  const parameters = (n: number) => `"parameters":{"failure_rate":0,"message":null,"n":${n},"name":"World"}`;
  test.for(
    [
      ["", `{"job_type":"hello_world",${parameters(3)}}`],
      ["{}", `{"job_type":"hello_world",${parameters(3)}}`],
      [`{"name": "World", "n": 3.0}`, `{"job_type":"hello_world",${parameters(3)}}`],
      [`{"n": 100, "use_service_bus": false}`, `{"job_type":"hello_world",${parameters(100)},"transport":"storage_queue"}`],
      [`{"n": 100, "transport": "storage_queue"}`, `{"job_type":"hello_world",${parameters(100)},"transport":"storage_queue"}`],
      [`{"n": 100, "transport": "bullmq"}`, `{"job_type":"hello_world",${parameters(100)},"transport":"bullmq"}`],
      [`{"n": 100, "repeat": 1}`, `{"job_type":"hello_world",${parameters(100)}}`],
      [`{"n": 100, "repeat": 2}`, `{"job_type":"hello_world",${parameters(100)},"repeat":2}`],
      [
        `{"tasks_per_message": 10}`,
        `{"job_type":"hello_world","parameters":{"failure_rate":0,"message":null,"n":3,"name":"World","tasks_per_message":10}}`,
      ],
      [
        `{"name": "Zoë \\ud83d\\ude00", "failure_rate": 1e-7}`,
        `{"job_type":"hello_world","parameters":{"failure_rate":1e-7,"message":null,"n":3,"name":"Zoë 😀"}}`,
      ],
    ] as const,
  )("%s", async ([body, canonical], { sql }) => {
    const { status, body: answer } = await createTestApi(sql).post(submit, body);
    expect(status).toBe(202);
    expect(answer.job_id).toBe(sha256(canonical));
  });
});

test("a new job is accepted, committed and sent at once", async ({ sql }) => {
  const api = createTestApi(sql);
  const { status, headers, body } = await api.post(submit, `{"n": 100, "use_service_bus": false}`, {
    "x-request-id": "my-request-1",
  });
  expect(status).toBe(202);
  const jobId = body.job_id;
  expect(headers.get("location")).toBe(`/api/jobs/status/${jobId}`);
  expect(headers.get("x-request-id")).toBe("my-request-1");
  expect(body).toEqual({
    job_id: expect.stringMatching(/^[0-9a-f]{64}$/),
    status: "queued",
    job_type: "hello_world",
    parameters: { n: 100, name: "World", message: null, failure_rate: 0 },
    message: "The job was accepted.",
    queue_info: {
      queued: true,
      queue_name: "geospatial-jobs",
      transport: "storage_queue",
      processing_path: "storage_queue",
      queue_mode: "storage_queue",
      fallback_mode: false,
      message_id: expect.stringMatching(new RegExp(`^${jobId}-r1-start-o\\d+-n1-0$`)),
      warning: "no task-runner serves storage_queue at the moment; the job waits for one",
    },
    request_id: "my-request-1",
    timestamp: expect.stringMatching(/^\d{4}-.*Z$/),
    links: {
      status: `/api/jobs/status/${jobId}`,
      job: `/api/db/jobs/${jobId}`,
      tasks: `/api/db/tasks/${jobId}`,
      batches: `/api/db/batches/${jobId}`,
      poison: `/api/poison/messages?job_id=${jobId}`,
    },
  });
  const transport = api.transports.get("storage_queue")?.transport;
  const [message] = await transport?.receive("geospatial-jobs", { max: 10, signal: AbortSignal.timeout(2_000) }) ?? [];
  expect(JSON.parse(message?.body ?? "")).toEqual({
    version: 1,
    kind: "start-job",
    jobId,
    run: 1,
    correlationId: "my-request-1",
  });
  expect(message?.messageId).toBe(body.queue_info.message_id);
  const [row] = await sql`select processing_path, correlation_id, total_stages from jobs where id = ${jobId}`;
  expect(row).toEqual({ processing_path: "storage_queue", correlation_id: "my-request-1", total_stages: 2 });
  expect(await sql`select status, locked_by from outbox`).toEqual([{ status: "queued", locked_by: null }]);
  expect(await findViolations(sql)).toEqual([]);
});

test("no warning where a runner is alive", async ({ sql }) => {
  await renewRunner(sql, { id: "runner-1", processingPath: "bullmq", queue: "tasks" });
  const { body } = await createTestApi(sql).post(submit, `{"transport": "bullmq"}`);
  expect(body.queue_info).not.toHaveProperty("warning");
});

test("the same submission again finds the same job and sends nothing", async ({ sql }) => {
  const api = createTestApi(sql);
  const first = await api.post(submit, `{"n": 7}`);
  const second = await api.post(submit, ` {"name":"World","n":7} `, { "content-type": "application/json" });
  expect([first.status, second.status]).toEqual([202, 200]);
  expect(second.body).toMatchObject({
    job_id: first.body.job_id,
    status: "queued",
    queue_info: { queued: true, message_id: null },
  });
  expect(await api.transports.get("bullmq")?.transport.counts("jobs")).toEqual({ active: 1, deadLettered: 0 });
  await sql`update jobs set status = 'processing'`;
  await sql`update jobs set status = 'failed', ended_at = now()`;
  const third = await api.post(submit, `{"n": 7}`);
  expect(third.status).toBe(200);
  expect(third.body).toMatchObject({ job_id: first.body.job_id, status: "failed" });
  expect(third.body.message).toContain("repeat");
  const again = await api.post(submit, `{"n": 7, "repeat": 2}`);
  expect(again.status).toBe(202);
  expect(again.body.job_id).not.toBe(first.body.job_id);
  await sql`delete from jobs where id = ${first.body.job_id}`;
  expect((await api.get(`/api/jobs/status/${first.body.job_id}`)).status).toBe(404);
  expect(await api.post(submit, `{"n": 7}`)).toMatchObject({ status: 202, body: { job_id: first.body.job_id } });
});

test("twenty identical submissions at once make one job, one outbox row and one message", async ({ sql }) => {
  const api = createTestApi(sql);
  const answers = await Promise.all(Array.from({ length: 20 }, () => api.post(submit, `{"n": 5}`)));
  expect(answers.map(({ status }) => status).sort()).toEqual([...Array(19).fill(200), 202]);
  expect(new Set(answers.map(({ body }) => body.job_id)).size).toBe(1);
  expect(await sql`select (select count(*)::int from jobs) as jobs, (select count(*)::int from outbox) as batches`)
    .toEqual([{ jobs: 1, batches: 1 }]);
  expect(await api.transports.get("bullmq")?.transport.counts("jobs")).toEqual({ active: 1, deadLettered: 0 });
});

describe("after the commit", () => {
  const failing = (send: Transport["send"]) => (transport: Transport): Transport => ({ ...transport, send });

  test("a send that fails leaves the batch to the relay, and the answer is 202", async ({ sql }) => {
    const api = createTestApi(sql, { wrap: failing(() => Promise.reject(new Error("broker password hunter2 is wrong"))) });
    const { status, body } = await api.post(submit, `{"n": 5}`);
    expect(status).toBe(202);
    expect(body.queue_info).toMatchObject({ queued: false, message_id: null });
    expect(JSON.stringify(body)).not.toContain("hunter2");
    expect(await sql`select status, locked_by, failures from outbox`).toEqual([{
      status: "pending_queue",
      locked_by: null,
      failures: 1,
    }]);
    expect((await api.post(submit, `{"n": 5}`)).body.queue_info.queued).toBe(false);
  });

  test("a send that never ends is not waited for", async ({ sql }) => {
    const api = createTestApi(sql, { wrap: failing(() => new Promise(() => {})) });
    const { status, body } = await api.post(submit, `{"n": 5}`);
    expect(status).toBe(202);
    expect(body.queue_info.queued).toBe(false);
    expect(await sql`select status, locked_by from outbox`).toEqual([{ status: "pending_queue", locked_by: "api-test" }]);
  });
});

describe("the transport", () => {
  test.for(
    [
      [["bullmq", "storage_queue"], {}, "bullmq"],
      [["storage_queue", "bullmq"], {}, "storage_queue"],
      [["bullmq"], { use_service_bus: false }, "bullmq"],
      [["bullmq", "service_bus"], { use_service_bus: true }, "service_bus"],
      [["bullmq", "storage_queue"], { use_service_bus: false, transport: "bullmq" }, "bullmq"],
      [["bullmq", "service_bus"], { use_service_bus: true, transport: "service_bus" }, "service_bus"],
    ] as const,
  )("of %j, asked for %j: %s", async ([names, asked, expected], { sql }) => {
    const { status, body } = await createTestApi(sql, { names }).post(submit, JSON.stringify(asked));
    expect(status).toBe(202);
    expect(body.queue_info.processing_path).toBe(expected);
  });

  test("a configured default is where jobs go", async ({ sql }) => {
    const { body } = await createTestApi(sql, { defaultTransport: "storage_queue" }).post(submit);
    expect(body.queue_info.transport).toBe("storage_queue");
  });

  test.for(
    [
      [["bullmq"], { use_service_bus: true }, "use_service_bus"],
      [["bullmq"], { transport: "storage_queue" }, "transport"],
      [["service_bus"], { use_service_bus: false }, "use_service_bus"],
    ] as const,
  )("of %j, asked for %j: refused, naming %s and what is enabled", async ([names, asked, field], { sql }) => {
    const { status, body } = await createTestApi(sql, { names }).post(submit, JSON.stringify(asked));
    expect(status).toBe(400);
    expect(body).toMatchObject({
      type: "urn:sluice:problem:transport-not-enabled",
      enabled_transports: names,
      errors: [{ field }],
    });
  });
});

describe("an idempotency key", () => {
  const key = { "idempotency-key": "order-17" };

  test("stands for one request: the same again finds its job, another is refused", async ({ sql }) => {
    const api = createTestApi(sql);
    const first = await api.post(submit, `{"n": 5, "name": "Ada"}`, key);
    const same = await api.post(submit, `{"name": "Ada", "n": 5}`, key);
    expect([first.status, same.status]).toEqual([202, 200]);
    expect(same.body.job_id).toBe(first.body.job_id);
    const others = [
      await api.post(submit, `{"n": 6, "name": "Ada"}`, key),
      await api.post("/api/jobs/submit/summarize_container", `{"container": "abc"}`, key),
    ];
    expect(others.map(({ status }) => status)).toEqual([409, 409]);
    expect(others[0]?.body.type).toBe("urn:sluice:problem:idempotency-conflict");
    expect(await sql`select count(*)::int as n from jobs`).toEqual([{ n: 1 }]);
  });

  test("finds the first job, though the same body would have another id today", async ({ sql }) => {
    const body = `{"n": 5, "use_service_bus": false}`;
    const first = await createTestApi(sql, { names: ["bullmq"] }).post(submit, body, key);
    const later = await createTestApi(sql, { names: ["bullmq", "storage_queue"] }).post(submit, body, key);
    expect([first.status, later.status]).toEqual([202, 200]);
    expect(later.body.job_id).toBe(first.body.job_id);
    expect(later.body.queue_info.transport).toBe("bullmq");
  });

  test("of ten different requests at once, one wins", async ({ sql }) => {
    const api = createTestApi(sql);
    const answers = await Promise.all(Array.from({ length: 10 }, (_, n) => api.post(submit, `{"n": ${n + 1}}`, key)));
    expect(answers.map(({ status }) => status).sort()).toEqual([202, ...Array(9).fill(409)]);
    expect(await sql`select (select count(*)::int from jobs) as jobs, (select count(*)::int from outbox) as batches`)
      .toEqual([{ jobs: 1, batches: 1 }]);
  });

  test("goes with its job", async ({ sql }) => {
    const api = createTestApi(sql);
    await api.post(submit, `{"n": 5}`, key);
    await sql`delete from jobs`;
    expect((await api.post(submit, `{"n": 6}`, key)).status).toBe(202);
  });

  test.for(["with space", "x".repeat(256), "ü"])("%s is refused", async (bad, { sql }) => {
    const { status, body } = await createTestApi(sql).post(submit, "{}", { "idempotency-key": bad });
    expect(status).toBe(400);
    expect(body.errors).toEqual([{ field: "Idempotency-Key", message: "must be 1 to 255 visible ASCII characters" }]);
  });
});

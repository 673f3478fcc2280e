import getPort from "get-port";
import { createServer, type Socket } from "node:net";
import { expect } from "vitest";
import { openDatabase } from "../../shared/store/database.ts";
import { test } from "../support/database.ts";
import { createTestApi } from "./support.ts";

test("health names each part, with its latency and its queues", async ({ sql }) => {
  const api = createTestApi(sql);
  await api.post("/api/jobs/submit/hello_world", "");
  const { status, body } = await api.get("/api/health");
  expect(status).toBe(200);
  expect(body).toMatchObject({
    status: "healthy",
    errors: [],
    components: {
      database: { status: "healthy", latency_ms: expect.any(Number), schema_version: expect.stringMatching(/^\d{4}_.*\.sql$/) },
      bullmq: {
        status: "healthy",
        queues: {
          jobs: { active_messages: 1, dead_letter_messages: 0 },
          stages: { active_messages: 0, dead_letter_messages: 0 },
          tasks: { active_messages: 0, dead_letter_messages: 0 },
        },
      },
      storage_queue: { status: "healthy", queues: { "geospatial-jobs": { active_messages: 0, dead_letter_messages: 0 } } },
    },
  });
  expect(await api.get("/readyz")).toMatchObject({ status: 200, body: { status: "ready" } });
  expect(await api.get("/livez")).toMatchObject({ status: 200, body: { status: "alive" } });
});

test("a broker that hangs makes health say so in time, and leaves readiness alone", async ({ sql }) => {
  let calls = 0;
  const api = createTestApi(sql, {
    names: ["bullmq"],
    wrap: (transport) => ({
      ...transport,
      counts: () => {
        calls++;
        return new Promise(() => {});
      },
    }),
  });
  const started = performance.now();
  const answers = await Promise.all([api.get("/api/health"), api.get("/api/health")]);
  expect(performance.now() - started).toBeLessThan(4_000);
  for (const { status, body } of answers) {
    expect(status).toBe(503);
    expect(body).toMatchObject({
      status: "unhealthy",
      components: { database: { status: "healthy" }, bullmq: { status: "unhealthy" } },
    });
    expect(body.errors).toEqual(["bullmq: does not answer; waited up to 2500 ms"]);
  }
  expect(calls).toBe(5); // asked once, for the five queues
  expect((await api.get("/readyz")).status).toBe(200);
});

test("a schema that is not there is neither healthy nor ready, and a submission is told to try later", async ({ sql }) => {
  await sql`drop schema public cascade`;
  await sql`create schema public`;
  const api = createTestApi(sql);
  expect(await api.get("/readyz")).toMatchObject({ status: 503, body: { problem: "the schema has not been deployed" } });
  expect(await api.get("/api/health")).toMatchObject({
    status: 503,
    body: { components: { database: { status: "unhealthy", problem: "the schema has not been deployed" } } },
  });
  const { status, headers } = await api.post("/api/jobs/submit/hello_world", "");
  expect(status).toBe(503);
  expect(headers.get("retry-after")).toBe("5");
});

test("while the database is away, requests get 503 with Retry-After and no internals", async ({ sql: _ }) => {
  const port = await getPort();
  const away = openDatabase(`postgres://someone:hunter2@127.0.0.1:${port}/nowhere`, { applicationName: "tests", max: 2 });
  const api = createTestApi(away);
  for (
    const answer of [
      await api.post("/api/jobs/submit/hello_world", ""),
      await api.get("/api/db/jobs"),
      await api.get(`/api/jobs/status/${"0".repeat(64)}`),
    ]
  ) {
    expect(answer.status).toBe(503);
    expect(answer.headers.get("retry-after")).toBe("5");
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(JSON.stringify(answer.body)).not.toMatch(/hunter2|ECONNREFUSED|127\.0\.0\.1/);
  }
  expect((await api.get("/livez")).status).toBe(200);
  expect(await api.get("/readyz")).toMatchObject({ status: 503, body: { problem: "the database does not answer" } });
  expect((await api.get("/api/health")).status).toBe(503);
  expect(JSON.stringify(api.lines)).not.toContain("hunter2");
  await away.end({ timeout: 0 });
});

test("readiness answers within a second though the database hangs", async () => {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => void sockets.add(socket.on("error", () => {})));
  const port = await getPort();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const hanging = openDatabase(`postgres://someone@127.0.0.1:${port}/nowhere`, { applicationName: "tests", max: 2 });
  const api = createTestApi(hanging);
  for (let round = 0; round < 3; round++) {
    const started = performance.now();
    expect((await api.get("/readyz")).status).toBe(503);
    expect(performance.now() - started).toBeLessThan(1_000);
  }
  for (const socket of sockets) socket.destroy();
  server.close();
  await hanging.end({ timeout: 0 });
});

test("a request leaves one line, with its ids, and an error stays inside", async ({ sql }) => {
  const api = createTestApi(sql);
  await api.get("/api/db/stats", { "x-request-id": "req-1" });
  expect(api.lines).toMatchObject([{
    msg: "request",
    requestId: "req-1",
    correlationId: "req-1",
    method: "GET",
    path: "/api/db/stats",
    status: 200,
    durationMs: expect.any(Number),
  }]);
  await sql`alter table jobs rename column job_type to jobtype`;
  const { status, body } = await api.get("/api/db/jobs");
  expect(status).toBe(500);
  expect(body).toMatchObject({
    type: "urn:sluice:problem:internal-error",
    detail: "the error is in the log, under this request's id",
  });
  expect(JSON.stringify(body)).not.toContain("job_type");
  expect(api.lines.at(-1)).toMatchObject({
    level: 50,
    requestId: body.request_id,
    status: 500,
    err: { message: expect.stringContaining("job_type") },
  });
});

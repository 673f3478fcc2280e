import { describe, expect } from "vitest";
import { findViolations } from "../../shared/store/invariants.ts";
import { startJob } from "../../shared/store/jobs.ts";
import { findSchemaProblem } from "../../shared/store/migrate.ts";
import { insertTasks } from "../../shared/store/stages.ts";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import { test } from "../support/database.ts";
import { createTestApi } from "./support.ts";

const redeploy = "/api/db/schema/redeploy";
const confirmed = `${redeploy}?confirm=yes`;
const local = { allowSchemaRedeploy: true, remoteAddress: () => "127.0.0.1" };
const stage = {
  number: 1,
  name: "greeting",
  taskType: "x",
  queue: "tasks",
  tasksPerMessage: 1,
  timeoutMs: 1_000,
  deadlineMs: null,
};

test("drops everything of ours, deploys it again and purges the queues", async ({ sql }) => {
  const api = createTestApi(sql, local);
  const first = await api.post("/api/jobs/submit/hello_world", `{"n": 5}`);
  const claimed = await startJob(sql, "tests", { jobId: first.body.job_id, run: 1, stage });
  if (!claimed) throw new Error("the job did not start");
  await insertTasks(sql, claimed, { startIndex: 0, parameters: [{}, {}], tasksPerMessage: 1 });
  await sql`create schema bullmq create table jobs (id int)`;
  const { status, body } = await api.post(confirmed);
  expect(status).toBe(200);
  expect(body).toMatchObject({ overall_status: "success", message: expect.any(String) });
  expect(body.steps).toContainEqual({ step: "apply 0001_pipeline.sql", status: "success" });
  expect(body.steps).toContainEqual({ step: "purge storage_queue geospatial-tasks", status: "success" });
  expect(await findSchemaProblem(sql)).toBeNull();
  expect(await sql`select from jobs`).toHaveLength(0);
  expect(await sql`select from bullmq.jobs`).toHaveLength(0);
  expect(await api.transports.get("bullmq")?.transport.counts("jobs")).toEqual({ active: 0, deadLettered: 0 });

  // What an orchestrator still holds of an old stage means no new one.
  const second = await api.post("/api/jobs/submit/hello_world", `{"n": 5}`);
  expect(second).toMatchObject({ status: 202, body: { job_id: first.body.job_id } });
  const fresh = await startJob(sql, "tests", { jobId: first.body.job_id, run: 1, stage });
  expect(fresh?.stageId).toBeGreaterThan(claimed.stageId);
  expect(await insertTasks(sql, claimed, { startIndex: 2, parameters: [{}], tasksPerMessage: 1 })).toBe(false);
  expect(await findViolations(sql)).toEqual([]);
});

test("leaves BullMQ working, whose tables are in the same database", async ({ sql, database }) => {
  const bullmq = openBullmqTransport({ databaseUrl: database.url });
  const api = createTestApi(sql, { ...local, names: ["bullmq"], wrap: () => bullmq });
  await api.post("/api/jobs/submit/hello_world", `{"n": 5}`);
  expect(await bullmq.counts("jobs")).toMatchObject({ active: 1 });
  expect((await api.post(confirmed)).status).toBe(200);
  expect(await bullmq.counts("jobs")).toMatchObject({ active: 0 });
  const again = await api.post("/api/jobs/submit/hello_world", `{"n": 5}`);
  expect(again.body.queue_info.queued).toBe(true);
  const [message] = await bullmq.receive("jobs", { max: 1, signal: AbortSignal.timeout(5_000) });
  expect(message?.body).toContain(again.body.job_id);
  await bullmq.close();
});

test("whoever is at work meanwhile either waits or fails, and goes on", async ({ sql }) => {
  const api = createTestApi(sql, local);
  const stop = new AbortController();
  const outcomes = new Map<number, number>();
  const clients = Array.from({ length: 4 }, async (_, client) => {
    for (let n = 1; !stop.signal.aborted; n++) {
      const { status } = await api.post("/api/jobs/submit/hello_world", JSON.stringify({ n, name: `client ${client}` }));
      outcomes.set(status, (outcomes.get(status) ?? 0) + 1);
    }
  });
  for (let round = 0; round < 5; round++) expect((await api.post(confirmed)).status).toBe(200);
  stop.abort();
  await Promise.all(clients);
  expect(outcomes.get(202)).toBeGreaterThan(0);
  expect((await api.post("/api/jobs/submit/hello_world", `{"name": "afterwards"}`)).status).toBe(202);
  expect(await findViolations(sql)).toEqual([]);
});

test("a queue that can't be purged is named, and the schema is there", async ({ sql }) => {
  const api = createTestApi(sql, {
    ...local,
    names: ["bullmq"],
    wrap: (transport) => ({
      ...transport,
      purge: (queue) => queue === "tasks" ? Promise.reject(new Error("hunter2")) : transport.purge(queue),
    }),
  });
  const { status, body } = await api.post(confirmed);
  expect(status).toBe(500);
  expect(body).toMatchObject({ type: "urn:sluice:problem:redeploy-incomplete", overall_status: "partial" });
  expect(body.steps).toContainEqual({ step: "purge bullmq tasks", status: "failed" });
  expect(JSON.stringify(body)).not.toContain("hunter2");
  expect(await findSchemaProblem(sql)).toBeNull();
});

describe("is refused", () => {
  test("where it is off", async ({ sql }) => {
    const { status, body } = await createTestApi(sql, { remoteAddress: () => "127.0.0.1", allowAdminRoutes: true }).post(
      confirmed,
    );
    expect([status, body.detail]).toEqual([403, "redeploying the schema is off; ALLOW_SCHEMA_REDEPLOY=true turns it on"]);
  });

  test.for(
    [
      ["another machine", "10.0.0.7", {}],
      ["nobody knows where from", undefined, {}],
      ["a proxy on this machine", "127.0.0.1", { "x-forwarded-for": "203.0.113.9" }],
      ["a page in a browser", "127.0.0.1", { origin: "https://example.com" }],
      ["a name that was rebound", "127.0.0.1", { host: "example.com" }],
    ] as const,
  )("from %s, unless admin routes are open", async ([, address, headers], { sql }) => {
    const dependencies = { allowSchemaRedeploy: true, remoteAddress: () => address };
    const path = "host" in headers ? `http://example.com${confirmed}` : confirmed;
    expect((await createTestApi(sql, dependencies).post(path, "", headers)).status).toBe(403);
    expect((await createTestApi(sql, { ...dependencies, allowAdminRoutes: true }).post(path, "", headers)).status).toBe(200);
  });

  test.for(["::1", "::ffff:127.0.0.1", "127.0.0.2"])("not from %s", async (address, { sql }) => {
    expect((await createTestApi(sql, { ...local, remoteAddress: () => address }).post(confirmed)).status).toBe(200);
  });

  test.for([redeploy, `${redeploy}?confirm=no`, `${redeploy}?confirm=`, `${redeploy}?confirm=YES`])(
    "%s",
    async (path, { sql }) => {
      const api = createTestApi(sql, local);
      await api.post("/api/jobs/submit/hello_world", "");
      const { status, body } = await api.post(path);
      expect(status).toBe(400);
      expect(body.errors).toMatchObject([{ field: "confirm" }]);
      expect(await sql`select from jobs`).toHaveLength(1);
    },
  );
});

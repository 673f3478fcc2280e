import { describe, expect } from "vitest";
import { loadConfig } from "../../services/api/config.ts";
import { createCircuits } from "../../services/api/circuits.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { MemoryBroker, openMemoryTransport } from "../../shared/transport/memory.ts";
import { defaultQueues } from "../../shared/transport/queues.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import { pino } from "pino";
import { test } from "../support/database.ts";
import { createTestApi } from "./support.ts";

const submit = "/api/jobs/submit/hello_world";
const rules = "/api/admin/routing/rules";
const names = ["bullmq", "storage_queue", "service_bus"] as const;
const local = { names, remoteAddress: () => "127.0.0.1" };

describe("rules", () => {
  test("are put, listed, followed, previewed and deleted", async ({ sql }) => {
    const api = createTestApi(sql, local);
    const put = (type: string, rule: object) => api.request(`${rules}/${type}`, { method: "PUT", body: JSON.stringify(rule) });
    expect(await put("hello_world", { transport: "service_bus", min_tasks: 100 })).toMatchObject({
      status: 201,
      body: { job_type: "hello_world", transport: "service_bus", percent: 100, min_tasks: 100 },
    });
    expect((await put("hello_world", { transport: "service_bus", min_tasks: 10 })).status).toBe(200);
    expect((await put("*", { transport: "storage_queue", percent: 0 })).status).toBe(201);
    const { body: listed } = await api.get(rules);
    expect(listed).toMatchObject({ default_transport: "bullmq", fallback_transport: null });
    expect(listed.rules).toMatchObject([{ job_type: "*", percent: 0 }, { job_type: "hello_world", min_tasks: 10 }]);

    expect((await api.post("/api/admin/routing/preview/hello_world", `{"n": 5}`)).body).toMatchObject({
      transport: "service_bus",
      routed_by: "rule",
      estimated_tasks: 10,
      fallback_mode: false,
    });
    expect(await sql`select from jobs`).toHaveLength(0);
    expect((await api.post(submit, `{"n": 5}`)).body.queue_info).toMatchObject({
      transport: "service_bus",
      queue_mode: "service_bus",
      fallback_mode: false,
      queue_name: "sb-jobs",
    });
    expect((await api.post(submit, `{"n": 4}`)).body.queue_info.transport).toBe("bullmq");
    expect((await api.post(submit, `{"n": 5, "transport": "storage_queue"}`)).body.queue_info.transport).toBe("storage_queue");
    expect(await sql`select processing_path, routed_by from jobs order by created_at`).toEqual([
      { processing_path: "service_bus", routed_by: "rule" },
      { processing_path: "bullmq", routed_by: "default" },
      { processing_path: "storage_queue", routed_by: "request" },
    ]);

    const remove = () => api.request(`${rules}/hello_world`, { method: "DELETE" });
    expect((await remove()).status).toBe(204);
    expect((await remove()).status).toBe(404);
    // A job stays where it is.
    expect(await api.post(submit, `{"n": 5}`)).toMatchObject({
      status: 200,
      body: { queue_info: { transport: "service_bus" } },
    });
    expect((await api.post(submit, `{"n": 6}`)).body.queue_info.transport).toBe("bullmq");
    expect(await findViolations(sql)).toEqual([]);
  });

  test.for(
    [
      ["hello_world", { transport: "kafka" }, 400, "transport"],
      ["hello_world", { transport: "bullmq", percent: 101 }, 400, "percent"],
      ["hello_world", { transport: "bullmq", min_tasks: -1 }, 400, "min_tasks"],
      ["hello_world", { transport: "bullmq", percentage: 5 }, 400, "percentage"],
      ["hello_world", {}, 400, "transport"],
      ["hello", { transport: "bullmq" }, 404, undefined],
    ] as const,
  )("%s %o is refused", async ([type, rule, status, field], { sql }) => {
    const api = createTestApi(sql, local);
    const answer = await api.request(`${rules}/${type}`, { method: "PUT", body: JSON.stringify(rule) });
    expect(answer.status).toBe(status);
    if (field) expect(answer.body.errors.map((error: { field: string }) => error.field)).toContain(field);
    expect(await sql`select from routing_rules`).toHaveLength(0);
  });

  test("only an admin changes them", async ({ sql }) => {
    const api = createTestApi(sql, { names });
    expect((await api.request(`${rules}/*`, { method: "PUT", body: `{"transport": "bullmq"}` })).status).toBe(403);
    expect((await api.request(`${rules}/*`, { method: "DELETE" })).status).toBe(403);
    expect((await api.post("/api/admin/rehome", `{"from": "bullmq", "to": "storage_queue"}`)).status).toBe(403);
    expect((await api.get(rules)).status).toBe(200);
  });
});

test("sb_hello_world is hello_world on Service Bus", async ({ sql }) => {
  const api = createTestApi(sql, local);
  const first = await api.post("/api/jobs/submit/sb_hello_world", `{"n": 7}`);
  expect(first).toMatchObject({ status: 202, body: { job_type: "hello_world", queue_info: { transport: "service_bus" } } });
  const same = await api.post(submit, `{"n": 7, "use_service_bus": true}`);
  expect(same).toMatchObject({ status: 200, body: { job_id: first.body.job_id } });
  expect((await api.post("/api/jobs/submit/sb_hello_world", `{"use_service_bus": false}`)).body.errors).toMatchObject([{
    field: "use_service_bus",
  }]);
});

describe("a broker that is away", () => {
  function createBrokenBroker() {
    let broken = true;
    const broker = new MemoryBroker();
    const failing = <Result>(call: () => Promise<Result>) => broken ? Promise.reject(new Error("no route to host")) : call();
    const wrap = (transport: Transport): Transport => ({
      ...transport,
      send: (queue, messages) => failing(() => transport.send(queue, messages)),
      counts: (queue) => failing(() => transport.counts(queue)),
    });
    const transports = new Map(names.map((name) => {
      const transport = openMemoryTransport({ name, broker });
      return [name, { transport: name === "service_bus" ? wrap(transport) : transport, queues: defaultQueues[name] }] as const;
    }));
    return { transports, mend: () => void (broken = false) };
  }

  test("takes no new jobs, which go to the fallback, until it is back", async ({ sql }) => {
    const { transports: brokers, mend } = createBrokenBroker();
    const stop = new AbortController();
    const { transports, isAway } = createCircuits(brokers, {
      log: pino({ level: "silent" }),
      signal: stop.signal,
      breakAfter: 2,
      lookAgainMs: 20,
    });
    const api = createTestApi(sql, { ...local, transports, isAway, fallbackTransport: "storage_queue" });
    const infoOf = async (n: number) => (await api.post(submit, `{"n": ${n}, "use_service_bus": true}`)).body.queue_info;
    // Two jobs are spent on finding out; they wait for their broker.
    for (const n of [1, 2]) {
      expect(await infoOf(n)).toMatchObject({ queued: false, transport: "service_bus", fallback_mode: false });
    }
    expect(await infoOf(3)).toMatchObject({ queued: true, transport: "storage_queue", fallback_mode: true });
    const status = (await api.get("/api/admin/queue/status")).body;
    expect(status).toMatchObject({ service_bus_enabled: true, mode: "bullmq", fallback_mode: false });
    expect(status.queues["sb-jobs"]).toEqual({ transport: "service_bus", error: expect.stringMatching(/does not answer/) });
    expect(status.queues["geospatial-jobs"]).toMatchObject({ active_messages: 1, dead_letter_messages: 0 });

    mend();
    await expect.poll(() => isAway("service_bus")).toBe(false);
    expect(await infoOf(4)).toMatchObject({ queued: true, transport: "service_bus", fallback_mode: false });
    // The answer to a repeated submission tells how the job came to where it is.
    expect(await infoOf(3)).toMatchObject({ transport: "storage_queue", fallback_mode: true });
    const rows = await sql`select parameters -> 'n' as n, processing_path, fallback_from from jobs order by 1`;
    expect(rows.map(({ fallback_from }) => fallback_from)).toEqual([null, null, "service_bus", null]);
    stop.abort();
  });
});

test("scheduled messages are what the outbox keeps for later", async ({ sql }) => {
  const api = createTestApi(sql, local);
  await api.post(submit, `{"n": 1, "transport": "storage_queue"}`);
  await sql`update outbox set status = 'pending_queue', not_before = now() + interval '1 minute'`;
  const { body } = await api.get("/api/admin/queue/status");
  expect(body.queues["geospatial-jobs"]).toMatchObject({ scheduled_messages: 1 });
  expect(body.queues.jobs).toMatchObject({ scheduled_messages: 0 });
});

describe("the settings", () => {
  const base = { DATABASE_URL: "postgres://localhost/sluice" };
  test.for(
    [
      [{ TRANSPORTS: "bullmq,service_bus" }, ["bullmq", "service_bus"], "bullmq"],
      [{ TRANSPORTS: "bullmq,service_bus", USE_SERVICE_BUS: "true" }, ["bullmq", "service_bus"], "service_bus"],
      [{ TRANSPORTS: "service_bus,bullmq", USE_SERVICE_BUS: "false" }, ["bullmq"], "bullmq"],
      [{ TRANSPORTS: "bullmq", USE_SERVICE_BUS: "true", FALLBACK_TRANSPORT: "bullmq" }, ["bullmq", "service_bus"], "service_bus"],
      [
        { TRANSPORTS: "bullmq,service_bus", USE_SERVICE_BUS: "true", DEFAULT_TRANSPORT: "bullmq" },
        ["bullmq", "service_bus"],
        "bullmq",
      ],
    ] as const,
  )("%o", ([environment, accepting, defaultTransport]) => {
    expect(loadConfig({ ...base, ...environment })).toMatchObject({ accepting, defaultTransport });
  });

  test.for(
    [
      [{ TRANSPORTS: "bullmq", USE_SERVICE_BUS: "true" }, /USE_SERVICE_BUS.*TRANSPORTS does not name service_bus/],
      [{ TRANSPORTS: "service_bus", USE_SERVICE_BUS: "false" }, /USE_SERVICE_BUS/],
      [{ USE_SERVICE_BUS: "false", ENABLE_SERVICE_BUS: "true" }, /USE_SERVICE_BUS, ENABLE_SERVICE_BUS: are the same setting/],
      [{ TRANSPORTS: "bullmq", USE_SERVICE_BUS: "yes" }, /USE_SERVICE_BUS: must be true or false/],
      [{ TRANSPORTS: "bullmq", FALLBACK_TRANSPORT: "storage_queue" }, /FALLBACK_TRANSPORT: must be one of TRANSPORTS/],
      [{ TRANSPORTS: "bullmq,service_bus", USE_SERVICE_BUS: "false", DEFAULT_TRANSPORT: "service_bus" }, /DEFAULT_TRANSPORT/],
    ] as const,
  )("%o is refused", ([environment, message]) => {
    expect(() => loadConfig({ ...base, ...environment })).toThrow(message);
  });
});

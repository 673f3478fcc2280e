import { describe, expect } from "vitest";
import { maxBodyBytes } from "../../services/api/app.ts";
import { test } from "../support/database.ts";
import { createTestApi } from "./support.ts";

const submit = "/api/jobs/submit/hello_world";
const unknownId = "0".repeat(64);

const deep = `{"name": ${"[".repeat(200_000)}${"]".repeat(200_000)}}`;
const badBodies: readonly (readonly [name: string, body: string | Uint8Array<ArrayBuffer>, field: string, message: RegExp])[] = [
  ["no JSON", "n=100", "", /not valid JSON/],
  ["half of it", `{"n": 1`, "", /not valid JSON/],
  ["a number", "5", "", /must be a JSON object/],
  ["a list", "[]", "", /must be a JSON object/],
  ["null", "null", "", /must be a JSON object/],
  ["text", `"{}"`, "", /must be a JSON object/],
  ["no UTF-8", new Uint8Array([0x7b, 0xff, 0x7d]), "", /not UTF-8/],
  ["text for a number", `{"n": "100"}`, "n", /^must be number$/],
  ["null for a number", `{"n": null}`, "n", /^must be number$/],
  ["no whole number", `{"n": 1.5}`, "n", /not a valid integer/],
  ["too small a number", `{"n": 0}`, "n", /^must be >=1$/],
  ["too large a number", `{"n": 1000001}`, "n", /^must be <=1000000$/],
  ["no finite number", `{"failure_rate": 1e999}`, "failure_rate", /too large a number/],
  ["empty text", `{"name": ""}`, "name", /must have at least 1 characters/],
  ["no task per message", `{"tasks_per_message": 0}`, "tasks_per_message", /^must be >=1$/],
  ["too many tasks per message", `{"tasks_per_message": 101}`, "tasks_per_message", /^must be <=100$/],
  [
    "an unknown key",
    `{"m": 1}`,
    "m",
    /is unknown; known are n, name, message, failure_rate, tasks_per_message, transport, use_service_bus, repeat/,
  ],
  ["a key that objects have", `{"constructor": 1}`, "constructor", /is unknown/],
  ["another one", `{"__proto__": {"n": 1}}`, "__proto__", /is unknown/],
  ["U+0000", `{"name": "a\\u0000b"}`, "name", /U\+0000/],
  ["half a surrogate pair", `{"message": "\\ud800"}`, "message", /surrogate/],
  ["deep nesting", deep, "name", /nested more than/],
  ["an unknown transport", `{"transport": "kafka"}`, "transport", /service_bus/],
  ["text for a switch", `{"use_service_bus": "false"}`, "use_service_bus", /boolean/],
  ["a contradiction", `{"transport": "bullmq", "use_service_bus": true}`, "transport", /contradict/],
  ["no repetition", `{"repeat": 0}`, "repeat", />=1/],
  ["half a repetition", `{"repeat": 2.5}`, "repeat", /integer/],
];

test.for(badBodies)(
  "a body with %s is refused, naming the field, and leaves nothing",
  async ([, body, field, message], { sql }) => {
    const api = createTestApi(sql);
    const answer = await api.post(submit, body);
    expect(answer.status).toBe(400);
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(answer.body).toMatchObject({
      type: "urn:sluice:problem:invalid-request",
      title: "The request is not valid",
      status: 400,
      detail: expect.any(String),
      instance: submit,
      request_id: answer.headers.get("x-request-id"),
    });
    expect(answer.body.errors).toContainEqual({ field, message: expect.stringMatching(message) });
    expect(await sql`select (select count(*)::int from jobs) as jobs, (select count(*)::int from outbox) as batches`)
      .toEqual([{ jobs: 0, batches: 0 }]);
    expect(api.lines.filter(({ errors }) => errors)).toHaveLength(1);
  },
);

test("every field at fault is named", async ({ sql }) => {
  const { body } = await createTestApi(sql).post(submit, `{"n": "x", "failure_rate": 2, "repeat": "y"}`);
  expect(body.errors.map(({ field }: { field: string }) => field)).toEqual(["n", "failure_rate", "repeat"]);
  const unknown = await createTestApi(sql).post(submit, `{"a": 1, "b": 2}`);
  expect(unknown.body.errors.map(({ field }: { field: string }) => field)).toEqual(["a", "b"]);
});

test("a missing parameter is named", async ({ sql }) => {
  const { status, body } = await createTestApi(sql).post("/api/jobs/submit/list_container", "");
  expect(status).toBe(400);
  expect(body.errors).toEqual([{ field: "container", message: "is missing" }]);
});

test("neither answer nor log repeats what was sent", async ({ sql }) => {
  const api = createTestApi(sql);
  const { body } = await api.post(submit, JSON.stringify({ n: "s3cret".repeat(10_000), ["k".repeat(10_000)]: 1 }));
  expect(JSON.stringify(body).length).toBeLessThan(2_000);
  await api.post(submit, JSON.stringify({ n: "s3cret" }));
  await api.post(submit, JSON.stringify({ name: "s3cret" }));
  expect(JSON.stringify(api.lines)).not.toContain("s3cret");
});

test("a body over 1 MiB is refused, however it comes", async ({ sql }) => {
  const api = createTestApi(sql);
  const text = JSON.stringify({ name: "x".repeat(maxBodyBytes) });
  expect(await api.post(submit, text)).toMatchObject({ status: 413, body: { type: "urn:sluice:problem:body-too-large" } });
  const chunks = new ReadableStream({
    pull(controller) {
      controller.enqueue(new TextEncoder().encode("x".repeat(100_000)));
    },
  });
  const init = { method: "POST", body: chunks, duplex: "half" } as RequestInit;
  expect(await api.request(submit, init)).toMatchObject({ status: 413, body: { status: 413 } });
  const inside = JSON.stringify({ message: "x".repeat(maxBodyBytes - 20) });
  expect(await api.post(submit, inside)).toMatchObject({ status: 400, body: { errors: [{ field: "message" }] } });
});

test("an unknown job type is a 404 that lists the known ones", async ({ sql }) => {
  const { status, body } = await createTestApi(sql).post("/api/jobs/submit/hello_wurld", "{}");
  expect(status).toBe(404);
  expect(body).toMatchObject({
    type: "urn:sluice:problem:unknown-job-type",
    known_job_types: ["assessment", "hello_world", "list_container", "sb_hello_world", "summarize_container"],
  });
  expect((await createTestApi(sql).post("/api/jobs/submit/%00", "{}")).status).toBe(404);
});

describe("ids", () => {
  const routes = ["/api/jobs/status/", "/api/db/jobs/", "/api/db/tasks/", "/api/db/batches/"];
  const bad = ["x", unknownId.slice(1), "F".repeat(64), "%00", "%zz", `${unknownId}0`];
  test.for(routes)("%s", async (route, { sql }) => {
    const api = createTestApi(sql);
    expect(await api.get(route + unknownId)).toMatchObject({ status: 404, body: { type: "urn:sluice:problem:unknown-job" } });
    for (const id of bad) {
      expect(await api.get(route + id)).toMatchObject({
        status: 400,
        body: { errors: [{ field: "job_id", message: "must be 64 lower-case hex digits" }] },
      });
    }
  });
});

describe("queries", () => {
  test.for(
    [
      ["/api/db/jobs?limit=0", "limit"],
      ["/api/db/jobs?limit=101", "limit"],
      ["/api/db/jobs?limit=ten", "limit"],
      ["/api/db/jobs?limit=-1", "limit"],
      ["/api/db/jobs?limit=1e1", "limit"],
      ["/api/db/jobs?limit=", "limit"],
      ["/api/db/jobs?limit=1&limit=2", "limit"],
      ["/api/db/jobs?hours=0", "hours"],
      ["/api/db/jobs?status=done", "status"],
      ["/api/db/jobs?status=", "status"],
      ["/api/db/jobs?state=failed", "state"],
      ["/api/db/jobs?__proto__=1", "__proto__"],
      ["/api/db/jobs?job_type=", "job_type"],
      ["/api/db/jobs?cursor=x", "cursor"],
      ["/api/db/jobs?cursor=", "cursor"],
      [`/api/db/jobs?cursor=${btoa(`{"createdAtUs":1e300,"jobId":"${unknownId}"}`)}`, "cursor"],
      [`/api/db/tasks?cursor=${btoa("0")}`, "cursor"],
      ["/api/db/tasks?stage=0", "stage"],
      ["/api/db/tasks?limit=1001", "limit"],
      ["/api/db/tasks?status=queued", "status"],
      [`/api/db/tasks/${unknownId}?hours=1`, "hours"],
      [`/api/db/tasks/${unknownId}?cursor=${btoa(`{"stage":1,"index":99999999999}`)}`, "cursor"],
      [`/api/db/batches/${unknownId}?status=sent`, "status"],
      ["/api/db/stats?x=1", "x"],
    ] as const,
  )("%s", async ([path, field], { sql }) => {
    const { status, body } = await createTestApi(sql).get(path);
    expect(status).toBe(400);
    expect(body.errors).toMatchObject([{ field }]);
  });

  test("U+0000 in a filter is refused", async ({ sql }) => {
    expect((await createTestApi(sql).get("/api/db/jobs?job_type=%00")).status).toBe(400);
  });
});

test.for(["/", "/api", "/api/jobs", "/api/db", "/api/jobs/submit", "/api/db/nothing", "/api/jobs/status/"])(
  "%s is a 404",
  async (path, { sql }) => {
    const { status, headers, body } = await createTestApi(sql).get(path);
    expect(status).toBe(404);
    expect(headers.get("content-type")).toBe("application/problem+json");
    expect(body.type).toBe("urn:sluice:problem:not-found");
  },
);

test.for(
  [
    ["GET", submit, "POST"],
    ["PUT", submit, "POST"],
    ["POST", "/api/db/jobs", "GET, HEAD"],
    ["DELETE", `/api/db/jobs/${unknownId}`, "GET, HEAD"],
    ["GET", "/api/db/schema/redeploy", "POST"],
    ["OPTIONS", "/api/health", "GET, HEAD"],
  ] as const,
)("%s %s is a 405 that allows %s", async ([method, path, allow], { sql }) => {
  const { status, headers, body } = await createTestApi(sql).request(path, { method });
  expect(status).toBe(405);
  expect(headers.get("allow")).toBe(allow);
  expect(headers.get("content-type")).toBe("application/problem+json");
  expect(body).toMatchObject({ type: "urn:sluice:problem:method-not-allowed", request_id: headers.get("x-request-id") });
});

test.for(["", "with space", "ü", "x".repeat(129), "a\u007fb"])("the request id %j is replaced", async (id, { sql }) => {
  const { headers } = await createTestApi(sql).get("/livez", { "x-request-id": id });
  expect(headers.get("x-request-id")).toMatch(/^req-[0-9a-f]{12}$/);
});

test("answers carry the headers that keep browsers from guessing", async ({ sql }) => {
  for (const path of ["/livez", "/api/nothing"]) {
    const { headers } = await createTestApi(sql).get(path);
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(headers.get("x-frame-options")).toBe("SAMEORIGIN");
  }
});

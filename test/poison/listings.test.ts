import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { openClaimCheck } from "../../shared/claim-check/open.ts";
import type { Sql } from "../../shared/store/database.ts";
import { claimTasks, recordAttempts } from "../../shared/store/tasks.ts";
import { createTestApi, type TestApi } from "../api/support.ts";
import { test as base } from "../support/database.ts";
import { type DeadLetters, jobId, openDeadLetters, sendStage } from "./dead-letters.ts";

const test = base.extend<{ letters: DeadLetters; directory: string }>({
  // deno-lint-ignore no-empty-pattern
  directory: async ({}, use) => {
    const directory = await mkdtemp(join(tmpdir(), "sluice-bodies-"));
    await use(directory);
    await rm(directory, { recursive: true, force: true });
  },
  letters: async ({ sql, directory }, use) => {
    const letters = await openDeadLetters(sql, directory);
    await use(letters);
    await letters.close();
  },
});

let claims = 0;

async function attempt(sql: Sql, taskId: number, outcome: "completed" | "failed", at?: string): Promise<void> {
  const claim = { taskId, claimId: `runner:${++claims}` };
  await claimTasks(sql, "runner", [claim]);
  const message = `file ${claims} holds ${"bananas".slice(0, claims % 7)}, password=hunter2`;
  await recordAttempts(sql, "runner", [
    outcome === "completed" ? { ...claim, outcome, result: { done: true } } : {
      ...claim,
      outcome,
      error: { code: "error", message, ...(at && { at }) },
      permanent: true,
      retry: { maxFailures: 1, backoffMs: 0, maxBackoffMs: 0 },
    },
  ]);
}

/** As an operator's retry leaves a task. */
async function openAgain(sql: Sql, taskId: number): Promise<void> {
  await sql`update tasks set status = 'pending', ended_at = null, not_before = null where id = ${taskId}`;
  await sql`update stages set failed = failed - 1, status = 'open', barrier_opened = 0`;
}

/** Records as a poison-handler would have left them, at times of the test's choice: hours ago, one per message. */
async function seedGroup(
  sql: Sql,
  fingerprint: string,
  hoursAgo: readonly number[],
  { code = "error", taskType = "t", verdict = "expected", transport = "bullmq", queue = "tasks", status = "new" } = {},
): Promise<readonly number[]> {
  await sql`
    insert into poison_groups (fingerprint, code, message, task_type, stage_name, messages, first_seen_at, last_seen_at)
    values (${fingerprint}, ${code}, 'm', ${taskType}, 'one', ${hoursAgo.length}, now() - ${
    Math.max(...hoursAgo)
  } * interval '1 hour',
      now() - ${Math.min(...hoursAgo)} * interval '1 hour')`;
  const rows = [];
  for (const [index, hours] of hoursAgo.entries()) {
    rows.push(
      ...await sql<{ id: number }[]>`
      insert into poison_messages (origin, transport, queue, identity, reason, verdict, judged_at, fingerprint, status, first_seen_at,
        last_seen_at)
      values ('message', ${transport}, ${queue}, ${`${fingerprint}-${index}`}, 'r', ${verdict}, now(), ${fingerprint}, ${status},
        now() - ${hours} * interval '1 hour', now() - ${hours} * interval '1 hour')
      returning id`,
    );
  }
  return rows.map(({ id }) => id);
}

const a = "a".repeat(16);
const b = "b".repeat(16);
const ids = async (api: TestApi, query: string) => {
  const { status, body } = await api.get(`/api/poison/messages?${query}`);
  expect(status).toBe(200);
  return body.messages.map((message: { poison_id: number }) => message.poison_id);
};

describe("GET /api/poison/messages", () => {
  test("has the newest first, by every filter, and in pages", async ({ sql }) => {
    const old = await seedGroup(sql, a, [50, 40, 30]);
    const [fresh = 0, freshest = 0] = await seedGroup(sql, b, [2, 1], {
      taskType: "u",
      verdict: "contradiction",
      transport: "service_bus",
      queue: "sb-tasks",
      status: "redriven",
    });
    await sql`update poison_messages set job_id = ${jobId} where id = ${fresh}`;
    const api = createTestApi(sql);
    const all = [freshest, fresh, ...old.toReversed()];
    expect(await ids(api, "")).toEqual(all);
    for (
      const filter of [
        "verdict=contradiction",
        "transport=service_bus",
        "queue=sb-tasks",
        `fingerprint=${b}`,
        "task_type=u",
        "status=redriven",
      ]
    ) {
      expect(await ids(api, filter)).toEqual([freshest, fresh]);
    }
    const since = new Date(Date.now() - 35 * 3_600_000).toISOString();
    expect(await ids(api, `since=${since}`)).toEqual([freshest, fresh, old[2]]);
    expect(await ids(api, `job_id=${jobId}`)).toEqual([fresh]);
    const pages: number[][] = [];
    for (let cursor = ""; cursor !== null;) {
      const { body } = await api.get(`/api/poison/messages?limit=2${cursor && `&cursor=${cursor}`}`);
      pages.push(body.messages.map((message: { poison_id: number }) => message.poison_id));
      cursor = body.next_cursor;
    }
    expect(pages).toEqual([all.slice(0, 2), all.slice(2, 4), all.slice(4)]);
  });

  test.for(["verdict=no", "since=yesterday", "fingerprint=x", "job_id=1", "colour=red", "limit=1001"])(
    "%s is a 400 that names it",
    async (query, { sql }) => {
      const api = createTestApi(sql);
      const { status, body } = await api.get(`/api/poison/messages?${query}`);
      expect(status).toBe(400);
      expect(body.errors).toMatchObject([{ field: query.split("=")[0] }]);
    },
  );
});

describe("GET /api/poison/messages/{id}", () => {
  test("has its record, without what is secret in body, description and error", async ({ sql, letters }) => {
    const { taskIds: [taskId = 0], messages: [message] } = await sendStage(sql);
    await attempt(sql, taskId, "failed");
    const body = JSON.stringify({ ...JSON.parse(message?.body ?? ""), apiKey: "hunter2" });
    const dead = await letters.die(
      "tasks",
      { messageId: message?.messageId ?? "", body },
      "task-failed",
      "error: password=hunter2",
    );
    const { id } = await letters.takeIn("tasks", dead);
    const { status, body: answer } = await createTestApi(sql).get(`/api/poison/messages/${id}`);
    expect(status).toBe(200);
    expect(answer).toMatchObject({
      poison_id: id,
      verdict: "expected",
      job_id: jobId,
      task_ids: [taskId],
      attempt: 1,
      task_type: "t",
      status: "new",
      sightings: 2, // the row's own record, and the message
      description: expect.stringMatching(/^error: file \d+ .*password=\[redacted\]$/),
      error: { code: "error", message: expect.stringMatching(/password=\[redacted\]$/) },
      body: { is_whole: true, size: body.length },
      links: { job: `/api/jobs/status/${jobId}`, group: `/api/poison/groups/${answer.fingerprint}` },
    });
    expect(JSON.parse(answer.body.head)).toMatchObject({ jobId, apiKey: "[redacted]" });
    expect(JSON.stringify(answer)).not.toContain("hunter2");
  });

  test("gives the whole body to an admin alone, redacted as configured", async ({ sql, letters, directory }) => {
    const body = JSON.stringify({ text: "x".repeat(5_000), password: "hunter2", iban: "DE1" });
    const { id } = await letters.takeIn("tasks", await letters.die("tasks", { messageId: "by-hand", body }));
    const path = `/api/poison/messages/${id}?body=full`;
    const openBodies = () => openClaimCheck({ directory });
    const refused = await createTestApi(sql, { openClaimCheck: openBodies }).get(path);
    expect(refused).toMatchObject({ status: 403, body: { type: "urn:sluice:problem:forbidden" } });
    const admin = createTestApi(sql, { openClaimCheck: openBodies, allowAdminRoutes: true });
    const { body: answer } = await admin.get(path);
    expect(answer.body).toMatchObject({ is_whole: false, size: body.length });
    expect(answer.body.head).toHaveLength(1_000);
    expect(JSON.parse(answer.body.full)).toEqual({ text: "x".repeat(5_000), password: "[redacted]", iban: "DE1" });
    expect(admin.lines).toContainEqual(expect.objectContaining({ msg: "whole body of a poison message read", poisonId: id }));
    await rm(directory, { recursive: true });
    expect(await admin.get(path)).toMatchObject({ status: 404, body: { type: "urn:sluice:problem:not-found" } });
  });

  test("that isn't there is a 404, and one that can't be is a 400", async ({ sql }) => {
    const api = createTestApi(sql);
    expect((await api.get("/api/poison/messages/7")).status).toBe(404);
    expect((await api.get("/api/poison/messages/x")).body.errors).toMatchObject([{ field: "poison_id" }]);
    expect((await api.get("/api/poison/messages/7?body=none")).body.errors).toMatchObject([{ field: "body" }]);
  });
});

test("a job's status counts its poison messages by verdict, and links them", async ({ sql, letters }) => {
  const { taskIds, messages } = await sendStage(sql, { tasks: 3 });
  const api = createTestApi(sql);
  expect((await api.get(`/api/jobs/status/${jobId}`)).body).not.toHaveProperty("poisonMessages");
  for (const [index, outcome] of (["failed", "failed", "completed"] as const).entries()) {
    await attempt(sql, taskIds[index] ?? 0, outcome);
    const message = messages[index];
    const reason = outcome === "failed" ? "task-failed" : "max-delivery-count";
    if (message) await letters.takeIn("tasks", await letters.die("tasks", message, reason));
  }
  const { body } = await api.get(`/api/jobs/status/${jobId}`);
  expect(body.poisonMessages).toEqual({ contradiction: 1, expected: 2 });
  expect((await api.get(body.links.poison)).body.messages).toHaveLength(3);
});

describe("groups", () => {
  test("tell how often in the last hour, and in the one before", async ({ sql }) => {
    await seedGroup(sql, a, [0.1, 0.5, 0.9, 1.1, 30]);
    await seedGroup(sql, b, [1.2, 1.5]);
    const { body } = await createTestApi(sql).get("/api/poison/groups");
    expect(body.groups).toMatchObject([
      { fingerprint: a, messages: 5, state: "ongoing", trend: { last_hour: 3, hour_before: 1, direction: "rising" } },
      { fingerprint: b, messages: 2, state: "new", trend: { last_hour: 0, hour_before: 2, direction: "falling" } },
    ]);
    expect(body.groups[0].links.messages).toBe(`/api/poison/messages?fingerprint=${a}`);
  });

  test("are new, ongoing, resolved or regressed, and are listed so", async ({ sql, letters }) => {
    const fingerprints = ["1", "2", "3"].map((digit) => digit.repeat(16));
    await seedGroup(sql, fingerprints[0] ?? "", [30, 1]);
    await seedGroup(sql, fingerprints[1] ?? "", [23.9, 2]);
    await letters.takeIn("tasks", await letters.die("tasks", { messageId: "1", body: "no" }));
    const api = createTestApi(sql, { allowAdminRoutes: true });
    const [{ fingerprint: unreadable }] = (await api.get("/api/poison/groups?limit=1")).body.groups;
    const resolve = (fingerprint: string) => api.post(`/api/poison/groups/${fingerprint}/resolve`);
    expect((await resolve(unreadable)).body).toMatchObject({ state: "resolved", action: expect.stringMatching(/^Nothing/) });
    await letters.takeIn("tasks", await letters.die("tasks", { messageId: "2", body: "no" }));
    expect((await api.get(`/api/poison/groups/${unreadable}`)).body).toMatchObject({ state: "regressed", messages: 2 });
    for (const [state, fingerprint] of [["ongoing", fingerprints[0]], ["new", fingerprints[1]], ["regressed", unreadable]]) {
      const { body } = await api.get(`/api/poison/groups?state=${state}`);
      expect(body.groups.map((group: { fingerprint: string }) => group.fingerprint)).toEqual([fingerprint]);
    }
    expect((await api.get("/api/poison/groups?state=resolved")).body.groups).toEqual([]);
    expect((await createTestApi(sql).post(`/api/poison/groups/${unreadable}/resolve`)).status).toBe(403);
    expect((await resolve("0".repeat(16))).status).toBe(404);
  });

  test("are transient once a task of theirs that was tried again completed; permanent if it failed again", async ({ sql, letters }) => {
    const { taskIds: [first = 0, second = 0], messages } = await sendStage(sql, { tasks: 2 });
    for (const [index, taskId] of [first, second].entries()) {
      await attempt(sql, taskId, "failed", "services/task-runner/tasks/x.ts read");
      const message = messages[index];
      if (message) await letters.takeIn("tasks", await letters.die("tasks", message, "task-failed"));
    }
    const api = createTestApi(sql);
    const group = async () => (await api.get("/api/poison/groups")).body.groups;
    // Two messages that differ in more than numbers, from one place in the code.
    expect(await group()).toMatchObject([{
      messages: 2,
      at: "services/task-runner/tasks/x.ts read",
      nature: "unknown",
      verdicts: { expected: 2 },
      message: expect.stringMatching(/password=\[redacted\]$/),
      action: "Redrive one of them, and the rest if it completes.",
    }]);
    await openAgain(sql, first);
    await attempt(sql, first, "failed", "services/task-runner/tasks/x.ts read");
    expect(await group()).toMatchObject([{
      nature: "permanent",
      evidence: { tried_again: 1, succeeded_later: 0, failed_again: 1 },
      action: "Fix the cause in services/task-runner/tasks/x.ts read first: 1 of 1 tasks that were tried again failed again.",
    }]);
    await openAgain(sql, second);
    await attempt(sql, second, "completed");
    expect(await group()).toMatchObject([{
      nature: "transient",
      evidence: { tried_again: 2, succeeded_later: 1, failed_again: 1 },
      action: "Redrive: 1 of 2 tasks that were tried again completed.",
    }]);
  });

  test("come in pages, those that were seen last first", async ({ sql }) => {
    const names = Array.from({ length: 5 }, (_, index) => String(index).repeat(16));
    for (const [index, name] of names.entries()) await seedGroup(sql, name, [index < 2 ? 1 : index]);
    await sql`update poison_groups set last_seen_at = '2026-01-01T00:00:00.000001Z' where fingerprint < ${names[2] ?? ""}`;
    const found: string[][] = [];
    const api = createTestApi(sql);
    for (let cursor = ""; cursor !== null;) {
      const { body } = await api.get(`/api/poison/groups?limit=2${cursor && `&cursor=${cursor}`}`);
      found.push(body.groups.map((group: { fingerprint: string }) => group.fingerprint));
      cursor = body.next_cursor;
    }
    expect(found).toEqual([[names[2], names[3]], [names[4], names[0]], [names[1]]]);
  });
});

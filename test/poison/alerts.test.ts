import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { pino } from "pino";
import { Webhook } from "standardwebhooks";
import { describe, expect } from "vitest";
import { alertTimes, tellAlerts } from "../../services/poison-handler/alerts.ts";
import { loadConfig } from "../../services/poison-handler/config.ts";
import { raiseRateJumps } from "../../shared/store/alerts.ts";
import type { Db, Sql } from "../../shared/store/database.ts";
import { type Judgement, writeVerdicts } from "../../shared/store/poison.ts";
import { createTestApi } from "../api/support.ts";
import { test as base } from "../support/database.ts";

const key = Buffer.from("0123456789abcdef0123456789abcdef");
const secret = `whsec_${key.toString("base64")}`;
const { signal } = new AbortController();
const times = { ...alertTimes, timeoutMs: 5_000 };
const fingerprint = "0123456789abcdef";

interface Received {
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

interface Receiver {
  readonly url: string;
  readonly received: Received[];
  /** What it answers; null: nothing, for ever. */
  status: number | null;
}

const test = base.extend<{ receiver: Receiver }>({
  // deno-lint-ignore no-empty-pattern
  receiver: async ({}, use) => {
    const receiver = { url: "", received: [] as Received[], status: 204 as number | null };
    const server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        receiver.received.push({ headers: request.headers, body: Buffer.concat(chunks).toString() });
        if (receiver.status !== null) response.writeHead(receiver.status, { location: "/elsewhere" }).end("no secrets here");
      });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    receiver.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?token=in-the-url`;
    await use(receiver);
    server.closeAllConnections();
    server.close();
  },
});

let messages = 0;

/** Records messages and judges them alike, as the poison-handler does. */
async function judge(sql: Db, verdict: Judgement["verdict"], count = 1): Promise<readonly number[]> {
  const rows = [];
  for (let n = 0; n < count; n++) {
    rows.push(
      ...await sql<{ id: number }[]>`
      insert into poison_messages (origin, transport, queue, identity, reason, body_head)
      values ('message', 'bullmq', 'tasks', ${String(++messages)}, 'max-delivery-count', '{"password":"hunter2"}') returning id`,
    );
  }
  const poisonIds = rows.map(({ id }) => id);
  await writeVerdicts(
    sql,
    poisonIds.map((poisonId) => ({
      poisonId,
      verdict,
      fingerprint,
      code: "max-delivery-count",
      message: "hunter<n> was refused",
      at: null,
      taskType: "t",
      stageName: "one",
      jobId: "a".repeat(64),
      stageId: null,
      attempt: null,
      error: null,
    })),
  );
  return poisonIds;
}

const tell = async (sql: Sql, receiver: Receiver, changes: Partial<typeof times> = {}) => {
  const lines: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line)) });
  const told = await tellAlerts({ sql, log, webhook: { url: receiver.url, secret } }, { ...times, ...changes }, signal);
  return { told, lines };
};
const later = async (sql: Sql, minutes: number) => {
  await sql`update alerts set told_at = told_at - ${minutes} * interval '1 min', due_at = due_at - ${minutes} * interval '1 min'`;
};

const due = async (sql: Sql) => {
  await sql`update alerts set due_at = now() where status = 'sending'`;
};

describe("an alert", () => {
  test("is posted once, signed as Standard Webhooks has it, with neither body nor message", async ({ sql, receiver }) => {
    const [poisonId] = await judge(sql, "unhandled");
    const { told, lines } = await tell(sql, receiver);
    expect(told).toBe(1);
    expect((await tell(sql, receiver)).told).toBe(0);
    expect(receiver.received).toHaveLength(1);
    const [{ headers, body } = { headers: {}, body: "" }] = receiver.received;
    const [alert] = await sql<{ id: number; status: string }[]>`select id, status from alerts`;
    expect(alert).toMatchObject({ status: "sent" });
    expect(JSON.parse(body)).toEqual({
      type: "poison.unhandled",
      timestamp: expect.stringMatching(/Z$/),
      data: {
        fingerprint,
        code: "max-delivery-count",
        task_type: "t",
        stage_name: "one",
        occurrences: 1,
        since: expect.stringMatching(/Z$/),
        first_message: poisonId,
        job_id: "a".repeat(64),
        links: {
          group: `/api/poison/groups/${fingerprint}`,
          message: `/api/poison/messages/${poisonId}`,
          job: `/api/jobs/status/${"a".repeat(64)}`,
        },
      },
    });
    const signed = `alert-${alert?.id}.${headers["webhook-timestamp"]}.${body}`;
    expect(headers).toMatchObject({
      "webhook-id": `alert-${alert?.id}`,
      "webhook-signature": `v1,${createHmac("sha256", key).update(signed).digest("base64")}`,
    });
    expect(new Webhook(secret).verify(body, headers as Record<string, string>)).toEqual(JSON.parse(body));
    expect(lines).toMatchObject([{ level: 50, msg: "poison alert", kind: "unhandled", fingerprint, occurrences: 1 }]);
    expect(`${body}${JSON.stringify(lines)}`).not.toMatch(/hunter|token/);
  });

  test("is written with its verdict, or not at all", async ({ sql }) => {
    await expect(sql.begin(async (tx) => {
      await judge(tx, "unhandled");
      throw new Error("the process died");
    })).rejects.toThrow("the process died");
    expect(await sql`select from alerts`).toHaveLength(0);
    await judge(sql, "expected");
    await judge(sql, "contradiction");
    expect(await sql`select kind from alerts`).toEqual([{ kind: "contradiction" }]);
  });

  test("counts what comes while it is quiet, and tells it afterwards", async ({ sql, receiver }) => {
    await judge(sql, "unhandled", 2);
    await tell(sql, receiver);
    await judge(sql, "unhandled", 3);
    await judge(sql, "unhandled", 4);
    await judge(sql, "contradiction");
    await later(sql, 14);
    await tell(sql, receiver);
    await later(sql, 1.1);
    await tell(sql, receiver);
    const said = receiver.received.map(({ body }) => JSON.parse(body)).map(({ type, data }) => [type, data.occurrences]);
    expect(said).toEqual([["poison.unhandled", 2], ["poison.contradiction", 1], ["poison.unhandled", 7]]);
  });

  test("that four processes look for at once is told by one of them", async ({ sql, receiver }) => {
    await judge(sql, "unhandled");
    const told = await Promise.all([1, 2, 3, 4].map(async () => (await tell(sql, receiver)).told));
    expect(told.toSorted()).toEqual([0, 0, 0, 1]);
    expect(receiver.received).toHaveLength(1);
  });
});

describe("a receiver that fails", () => {
  test("gets the same again, with growing pauses, and its failure is there to see", async ({ sql, receiver }) => {
    receiver.status = 500;
    await judge(sql, "unhandled");
    const { lines } = await tell(sql, receiver);
    expect(lines).toMatchObject([{ level: 50 }, { level: 40, msg: "alert not sent", attempt: 1, error: "answered 500" }]);
    expect((await tell(sql, receiver)).told).toBe(0);
    await judge(sql, "unhandled"); // counts towards the next one
    const api = createTestApi(sql);
    const { body } = await api.get("/api/poison/alerts?status=sending&kind=unhandled");
    expect(body).toMatchObject({
      alerts: [{ fingerprint, status: "sending", attempts: 1, last_error: "answered 500", occurrences: 1 }],
      next_cursor: null,
    });
    const pause = async () =>
      (await sql<{ s: number }[]>`select extract(epoch from due_at - now())::float as s from alerts where status = 'sending'`)[0]
        ?.s;
    expect(await pause()).toBeGreaterThan(3);
    expect(await pause()).toBeLessThan(6.1);
    await due(sql);
    receiver.status = 302; // a redirect is no acceptance
    await tell(sql, receiver);
    expect(await pause()).toBeGreaterThan(7);
    await due(sql);
    receiver.status = 200;
    await tell(sql, receiver);
    expect((await api.get("/api/poison/alerts?status=sent")).body.alerts).toMatchObject([{ attempts: 3, last_error: null }]);
    expect(new Set(receiver.received.map(({ body }) => body)).size).toBe(1);
    expect(new Set(receiver.received.map(({ headers }) => headers["webhook-id"])).size).toBe(1);
  });

  test("is given up after the last attempt, which the log says aloud", async ({ sql, receiver }) => {
    receiver.status = 503;
    await judge(sql, "unhandled");
    await tell(sql, receiver, { maxAttempts: 2, backoffMs: 0 });
    const { lines } = await tell(sql, receiver, { maxAttempts: 2, backoffMs: 0 });
    expect(lines).toMatchObject([{ level: 50, msg: "alert given up", attempt: 2, error: "answered 503" }]);
    expect(await sql`select status, attempts from alerts`).toEqual([{ status: "dead", attempts: 2 }]);
    expect((await tell(sql, receiver)).told).toBe(0);
  });

  test("never answers, or isn't there: the attempt ends, and its URL is in no error", async ({ sql, receiver }) => {
    receiver.status = null;
    await judge(sql, "unhandled");
    await tell(sql, receiver, { timeoutMs: 50, backoffMs: 0 });
    expect(await sql`select last_error from alerts`).toEqual([{ last_error: "no answer in time" }]);
    const gone = { ...receiver, url: "http://127.0.0.1:1/hook?token=in-the-url" };
    const { lines } = await tell(sql, gone);
    expect(await sql`select last_error from alerts`).toEqual([{ last_error: expect.stringMatching(/^not reached(: \w+)?$/) }]);
    expect(JSON.stringify(lines)).not.toContain("token");
  });

  test("whose process died in between is tried again when the lease has ended", async ({ sql, receiver }) => {
    await judge(sql, "unhandled");
    await sql`update alerts set status = 'sending', attempts = 1, told_at = now(), due_at = now() + interval '40 s'`;
    expect((await tell(sql, receiver)).told).toBe(0);
    await due(sql);
    expect((await tell(sql, receiver)).told).toBe(1);
    expect(await sql`select status, attempts from alerts`).toEqual([{ status: "sent", attempts: 2 }]);
  });
});

test("without a webhook alerts are logged, once", async ({ sql }) => {
  await judge(sql, "contradiction");
  const lines: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line)) });
  for (let round = 0; round < 2; round++) await tellAlerts({ sql, log, webhook: null }, times, signal);
  expect(lines).toMatchObject([{ level: 40, msg: "poison alert", kind: "contradiction" }]);
  expect(await sql`select status from alerts`).toEqual([{ status: "logged" }]);
});

describe("a rate that jumps", () => {
  /** Messages of a group that has been known for so many hours: some now, some an hour and more ago. */
  async function seed(sql: Sql, { now, before, knownHours }: { now: number; before: number; knownHours: number }): Promise<void> {
    await sql`
      insert into poison_groups (fingerprint, code, message, first_seen_at)
      values (${fingerprint}, 'error', 'm', now() - ${knownHours} * interval '1 hour')`;
    await sql`
      insert into poison_messages (origin, transport, queue, identity, reason, verdict, judged_at, fingerprint, first_seen_at)
      select 'message', 'bullmq', 'tasks', n::text, 'r', 'expected', now(), ${fingerprint},
        now() - case when n <= ${now} then interval '5 min' else interval '30 min' end
      from generate_series(1, ${now + before}) as n`;
  }

  // Known for 48 h, the mean is that of 144 times ten minutes; for an hour, of six.
  test.for([
    { now: 9, before: 0, knownHours: 0, raised: 0 },
    { now: 10, before: 0, knownHours: 0, raised: 1 },
    { now: 10, before: 288, knownHours: 48, raised: 1 },
    { now: 10, before: 289, knownHours: 48, raised: 0 },
    { now: 20, before: 24, knownHours: 1, raised: 1 },
    { now: 20, before: 25, knownHours: 1, raised: 0 },
  ])("$now now and $before in the $knownHours h before: $raised", async ({ now, before, knownHours, raised }, { sql }) => {
    await seed(sql, { now, before, knownHours });
    expect(await raiseRateJumps(sql, times)).toBe(raised);
    expect(await sql`select kind, occurrences from alerts`).toEqual(raised ? [{ kind: "rate-jump", occurrences: now }] : []);
  });

  test("is raised once, until its alert was told a quarter of an hour ago", async ({ sql, receiver }) => {
    await seed(sql, { now: 12, before: 0, knownHours: 0 });
    const raised = await Promise.all([raiseRateJumps(sql, times), raiseRateJumps(sql, times)]);
    expect(raised.toSorted()).toEqual([0, 1]);
    await tell(sql, receiver);
    expect(await raiseRateJumps(sql, times)).toBe(0);
    await later(sql, 16);
    expect(await raiseRateJumps(sql, times)).toBe(1);
    expect(JSON.parse(receiver.received[0]?.body ?? "")).toMatchObject({ type: "poison.rate-jump", data: { occurrences: 12 } });
  });
});

test("a webhook without a secret, or with one that is none, stops the process with the variable's name", () => {
  const load = (environment: Record<string, string>) =>
    loadConfig({ DATABASE_URL: "postgres://localhost/x", ALERT_WEBHOOK_URL: "https://example.com/x", ...environment });
  expect(() => load({})).toThrow("ALERT_WEBHOOK_SECRET");
  for (const wrong of ["hunter2", "whsec_hunter2", `whsec_${"A".repeat(28)}`]) {
    expect(() => load({ ALERT_WEBHOOK_SECRET: wrong })).toThrow("ALERT_WEBHOOK_SECRET: must be whsec_");
  }
  expect(load({ ALERT_WEBHOOK_SECRET: secret })).toMatchObject({ ALERT_WEBHOOK_SECRET: secret });
});

import * as v from "valibot";
import { describe, expect } from "vitest";
import { Report } from "../../shared/contracts/report.ts";
import type { Sql } from "../../shared/store/database.ts";
import { requestReconciliation, takeReconciliationRun } from "../../shared/store/reconciliation.ts";
import { test } from "../support/database.ts";
import { countsOf, finding, jobOf, recordRun } from "./reconciliation-run.ts";
import { createTestApi } from "./support.ts";

const path = (runId: number | string, query = "") => `/api/reconciliation/runs/${runId}${query}`;
const fingerprint = "a".repeat(16);

/** A job that failed in its first of two stages, with messages that died. */
async function seedFailedJob(sql: Sql, digit: number, messages: number): Promise<void> {
  await sql`
    insert into jobs (id, job_type, parameters, processing_path, status, total_stages, correlation_id, ended_at)
    values (${jobOf(digit)}, 'hello_world', '{}', 'bullmq', 'failed', 2, 'c', now())`;
  await sql`
    insert into stages (job_id, number, name, task_type, queue, timeout_ms, status, run, planned, sealed, completed, failed, ended_at)
    values (${jobOf(digit)}, 1, 'greeting', 'greet', 'tasks', 1, 'failed', 1, 10, true, 7, 3, now())`;
  await sql`
    insert into poison_groups (fingerprint, code, message, task_type, stage_name)
    values (${fingerprint}, 'error', 'password=hunter2 is wrong', 'greet', 'greeting') on conflict do nothing`;
  await sql`
    insert into poison_messages (origin, transport, queue, identity, reason, verdict, judged_at, fingerprint, job_id)
    select 'message', 'bullmq', 'tasks', ${`${digit}-`} || n, 'task-failed', 'expected', now(), ${fingerprint}, ${jobOf(digit)}
    from generate_series(1, ${messages}) as n`;
}

describe("as JSON", () => {
  test("has what the schema says: findings against the run before, groups, blocked jobs and four answers", async ({ sql }) => {
    await recordRun(sql, [finding(1), finding(2)], {}, { "stuck-stage": countsOf(2) });
    await seedFailedJob(sql, 7, 3);
    await seedFailedJob(sql, 8, 1);
    const runId = await recordRun(sql, [finding(2), finding(3)], {}, { "stuck-stage": countsOf(2, 1, 1) });
    const { status, body } = await createTestApi(sql).get(path(runId));
    expect(status).toBe(200);
    const report = v.parse(Report, body);
    expect(report).toEqual(body);
    expect(report.findings.map(({ subject_id, difference }) => [subject_id, difference])).toEqual([["2", "still"], ["3", "new"]]);
    expect(report.gone.map(({ subject_id, difference }) => [subject_id, difference])).toEqual([["1", "gone"]]);
    expect(report.groups).toEqual([{
      fingerprint,
      code: "error",
      message: "password=[redacted] is wrong",
      at: null,
      task_type: "greet",
      stage_name: "greeting",
      messages: 4,
      state: "new",
      nature: "unknown",
      action: "Redrive one of them, and the rest if it completes.",
    }]);
    expect(report.blocked_jobs).toMatchObject({
      total: 2,
      jobs: [
        {
          job_id: jobOf(7),
          status: "failed",
          stage: 1,
          total_stages: 2,
          failed_tasks: 3,
          open_tasks: 0,
          messages: 3,
          fingerprint,
        },
        { job_id: jobOf(8), messages: 1 },
      ],
    });
    expect(report.answers).toEqual({
      lost: { status: "stuck", text: "Nothing is missing, but 2 things won't go on without help." },
      failing: "error in greet: 4 messages in a day, new. password=[redacted] is wrong.",
      blocked: "2 jobs: 2 failed, 0 still open.",
      actions: [
        'Repair what can be: a run with "mode": "apply" mends 2 of these findings.',
        "error (4): Redrive one of them, and the rest if it completes.",
      ],
    });
  });

  test("gives findings in pages and by kind", async ({ sql }) => {
    const runId = await recordRun(
      sql,
      [1, 2, 3, 4, 5].map((number) => finding(number, number === 5 ? { kind: "index-gap" } : {})),
    );
    const api = createTestApi(sql);
    const pages: string[][] = [];
    for (let cursor = ""; cursor !== null;) {
      const { body } = await api.get(path(runId, `?limit=2${cursor && `&cursor=${cursor}`}`));
      pages.push(body.findings.map((row: { subject_id: string }) => row.subject_id));
      cursor = body.next_cursor;
    }
    expect(pages).toEqual([["1", "2"], ["3", "4"], ["5"]]);
    const { body } = await api.get(path(runId, "?kind=index-gap"));
    expect(body.findings.map((row: { subject_id: string }) => row.subject_id)).toEqual(["5"]);
  });

  test("has a schema that is published", async ({ sql }) => {
    const { body } = await createTestApi(sql).get("/api/reconciliation/schema");
    expect(body).toMatchObject({
      type: "object",
      properties: { run_id: { type: "integer" }, answers: { type: "object" }, findings: { type: "array" } },
      required: expect.arrayContaining(["run_id", "answers", "groups", "blocked_jobs"]),
    });
  });
});

describe("whether anything is lost", () => {
  const answer = async (sql: Sql, runId: number) => (await createTestApi(sql).get(path(runId))).body.answers.lost;

  test("no, if everything was checked and balances", async ({ sql }) => {
    expect(await answer(sql, await recordRun(sql, []))).toEqual({ status: "no", text: "No: 4,800 tasks of 12 jobs balance." });
  });

  test("yes, if rows or results are missing, unless they were mended", async ({ sql }) => {
    const gap = finding(1, { kind: "index-gap", repairable: false });
    const runId = await recordRun(sql, [gap], {}, { "index-gap": countsOf(1) });
    expect(await answer(sql, runId)).toEqual({ status: "yes", text: "Yes: 1 thing missing (index-gap)." });
    const mended = await recordRun(sql, [gap], { repaired: 1 }, { "index-gap": { ...countsOf(1), repaired: 1 } });
    expect(await answer(sql, mended)).toMatchObject({ status: "no" });
  });

  test("unknown, as long as a check was left out, or the run has not come to its end", async ({ sql }) => {
    const skipped = [{ name: "queues of bullmq", duration_ms: 0, skipped: "the broker is away" }];
    expect(await answer(sql, await recordRun(sql, [], { checks: skipped }))).toEqual({
      status: "unknown",
      text: "Nothing was found missing; 4,800 tasks of 12 jobs balance. Not checked: queues of bullmq.",
    });
    const { run_id } = await requestReconciliation(sql, { mode: "dry-run", requestedBy: "api" });
    expect(await answer(sql, run_id)).toEqual({ status: "unknown", text: "Unknown: the run is requested." });
    await takeReconciliationRun(sql, "poison-1");
    expect(await answer(sql, run_id)).toEqual({ status: "unknown", text: "Unknown: the run is running." });
  });
});

describe("as CSV", () => {
  test("is RFC 4180, and no cell is a formula", async ({ sql }) => {
    await recordRun(sql, [finding(9)]);
    const runId = await recordRun(sql, [
      finding(1, {
        subject_type: "queue",
        subject_id: '=HYPERLINK("http://x","a")',
        message: 'says "no", twice\r\nor more',
        stage_id: null,
      }),
    ]);
    await sql`update reconciliation_findings set repaired_at = '2026-07-01T12:00:00Z' where run_id = ${runId}`;
    const { body, headers } = await createTestApi(sql).get(path(runId, "?format=csv&tz=Europe/Berlin"));
    expect(headers.get("content-type")).toBe("text/csv; charset=utf-8; header=present");
    const [{ id: first, gone } = { id: 0, gone: 0 }] = await sql<{ id: number; gone: number }[]>`
      select max(id) as id, min(id) as gone from reconciliation_findings`;
    expect(body).toBe(
      "finding_id,difference,severity,kind,subject_type,subject_id,job_id,stage_id,task_id,transport,queue,message,suggested_action," +
        "repairable,repaired_at\r\n" +
        `${first},new,error,stuck-stage,queue,"'=HYPERLINK(""http://x"",""a"")",${
          jobOf(1)
        },,,bullmq,,"says ""no"", twice\r\nor more",` +
        "run with apply: its barrier is opened,true,2026-07-01T14:00:00+02:00\r\n" +
        `${gone},gone,error,stuck-stage,stage,9,${jobOf(9)},9,,bullmq,,` +
        `"stage 1 of job ${
          jobOf(9)
        } is sealed and has nothing open, but was not reduced",run with apply: its barrier is opened,true,\r\n`,
    );
  });
});

describe("as Markdown", () => {
  test("means itself, whatever the findings say", async ({ sql }) => {
    const runId = await recordRun(sql, [finding(1, { message: "a|b <script>*x*</script>\n# no" })], {}, {
      "stuck-stage": countsOf(1),
    });
    const { body, headers } = await createTestApi(sql).get(path(runId), { accept: "text/markdown" });
    expect(headers.get("content-type")).toBe("text/markdown; charset=utf-8");
    expect(body).toContain("**Is anything lost?** Nothing is missing, but 1 thing won't go on without help.");
    expect(body).toContain(
      "| error |  | stuck-stage | a\\|b \\<script\\>\\*x\\*\\</script\\> \\# no | run with apply: its barrier is opened |  |",
    );
    expect(body).toContain("| stuck-stage | 1 | 0 |  |  |");
  });
});

describe("times", () => {
  test("are in the zone that was asked for, in winter and in summer", async ({ sql }) => {
    const runId = await recordRun(sql, []);
    const at = async (time: string, tz: string) => {
      await sql`update reconciliation_runs set finished_at = ${time}::text::timestamptz`;
      const { body } = await createTestApi(sql).get(path(runId, `?format=markdown&tz=${tz}`));
      return body.split("\n")[2];
    };
    expect(await at("2026-01-31T23:30:00Z", "Europe/Berlin")).toBe(
      "completed, dry-run, 2026-02-01T00:30:00+01:00 (Europe/Berlin)",
    );
    expect(await at("2026-07-31T23:30:00Z", "Europe/Berlin")).toBe(
      "completed, dry-run, 2026-08-01T01:30:00+02:00 (Europe/Berlin)",
    );
    expect(await at("2026-07-31T23:30:00Z", "UTC")).toBe("completed, dry-run, 2026-07-31T23:30:00+00:00 (UTC)");
    expect(await at("2026-01-01T00:10:00Z", "America/St_Johns")).toBe(
      "completed, dry-run, 2025-12-31T20:40:00-03:30 (America/St\\_Johns)",
    );
  });

  test("in a zone that isn't known are a 400 that names tz", async ({ sql }) => {
    const { status, body } = await createTestApi(sql).get(path(1, "?tz=Mars/Olympus"));
    expect(status).toBe(400);
    expect(body.errors).toEqual([{ field: "tz", message: "is not a time zone such as Europe/Berlin" }]);
  });
});

describe("a report", () => {
  test("is given in the format that is asked for, or preferred", async ({ sql }) => {
    await recordRun(sql, []);
    const api = createTestApi(sql);
    const typeOf = async (query: string, accept?: string) =>
      (await api.get(path("latest", query), accept ? { accept } : {})).headers.get("content-type")?.split(";")[0];
    expect(await typeOf("")).toBe("application/json");
    expect(await typeOf("", "*/*")).toBe("application/json");
    expect(await typeOf("", "text/html,application/xhtml+xml,*/*;q=0.8")).toBe("text/html");
    expect(await typeOf("", "text/csv")).toBe("text/csv");
    expect(await typeOf("?format=markdown", "text/html")).toBe("text/markdown");
    expect((await api.get(path("latest", "?format=pdf"))).body.errors).toMatchObject([{ field: "format" }]);
  });

  test("has a strong ETag, and isn't sent again as long as nothing changed", async ({ sql }) => {
    const runId = await recordRun(sql, [finding(1)]);
    const api = createTestApi(sql);
    const tags = new Set<string>();
    for (const format of ["json", "html", "markdown", "csv"]) {
      const first = await api.get(path(runId, `?format=${format}`));
      const tag = first.headers.get("etag") ?? "";
      expect(tag).toMatch(/^"[0-9a-f]+"$/);
      expect(first.headers.get("vary")).toMatch(/accept/i);
      tags.add(tag);
      const again = await api.get(path(runId, `?format=${format}`), { "if-none-match": `"other", ${tag}` });
      expect(again).toMatchObject({ status: 304, body: null });
      expect(again.headers.get("etag")).toBe(tag);
    }
    expect(tags.size).toBe(4);
    await sql`update reconciliation_findings set repaired_at = now()`;
    const changed = await api.get(path(runId, "?format=csv"), { "if-none-match": [...tags].join(", ") });
    expect(changed.status).toBe(200);
  });

  test("that isn't there is a 404", async ({ sql }) => {
    const api = createTestApi(sql);
    expect((await api.get(path(7))).status).toBe(404);
    expect((await api.get(path("latest"))).status).toBe(404);
    expect((await api.get(path("newest"))).body.errors).toMatchObject([{ field: "run_id" }]);
  });
});

describe("as a page", () => {
  test.for([0, 3, 3_000, 3_001])(
    "with %i findings it stands alone, and nothing in it can be wider than its place",
    async (n, { sql }) => {
      const runId = await recordRun(sql, Array.from({ length: n }, (_, number) => finding(number + 1)), {}, {
        ...(n > 0 && { "stuck-stage": countsOf(n) }),
      });
      if (n > 0) await seedFailedJob(sql, 7, 3);
      const { body, headers } = await createTestApi(sql).get(path(runId, "?format=html&tz=Europe/Berlin"));
      expect(headers.get("content-security-policy")).toBe("default-src 'none'; style-src 'unsafe-inline'");
      expect(body).not.toMatch(/<script|<img|<link|@import|url\(|https?:/i);
      expect(body).toContain('<meta name="viewport" content="width=device-width, initial-scale=1">');
      // Long ids break; each table scrolls in a box of its own; no place has a width of its own but those of a phone.
      expect(body).toMatch(/body \{[^}]*overflow-wrap: anywhere/);
      expect(body.match(/<table>/g)?.length ?? 0).toBe(body.match(/<div class="scroll">\s*<table>/g)?.length ?? 0);
      expect(body).toMatch(/\.scroll \{ overflow-x: auto \}/);
      const style = /<style>(.*)<\/style>/s.exec(body)?.[1] ?? "";
      expect(style.match(/(?<![-\w(])(?:min-)?width: *\d+(?:px|rem)/g) ?? []).toEqual(["min-width: 14rem"]);
      expect(style).toMatch(/@media print/);
      expect(style).toMatch(/prefers-color-scheme: dark/);
      expect(body.match(/<td data-name="severity"/g)?.length ?? 0).toBe(Math.min(n, 3_000));
      expect(body.includes("1 more: see")).toBe(n === 3_001);
      expect(body.indexOf("What should I do?")).toBeLessThan(
        body.indexOf("<table>") === -1 ? body.length : body.indexOf("<table>"),
      );
    },
  );

  test("shows what a finding says as text", async ({ sql }) => {
    const runId = await recordRun(sql, [finding(1, { message: "<script>alert('x')</script>" })]);
    const { body } = await createTestApi(sql).get(path(runId, "?format=html"));
    expect(body).not.toContain("<script");
    expect(body).toContain("&lt;script&gt;alert(");
  });
});

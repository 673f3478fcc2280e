import { toJsonSchema } from "@valibot/to-json-schema";
import { type Context, Hono } from "hono";
import { accepts } from "hono/accepts";
import { etag } from "hono/etag";
import * as v from "valibot";
import { RowId } from "../../../shared/contracts/ids.ts";
import { parse } from "../../../shared/contracts/parse.ts";
import { findingKinds, type ReconciliationRun } from "../../../shared/contracts/reconciliation.ts";
import { Report } from "../../../shared/contracts/report.ts";
import type { Sql } from "../../../shared/store/database.ts";
import { findLatestReconciliationRun, findReconciliationRun } from "../../../shared/store/reconciliation.ts";
import {
  type ComparedFinding,
  listBlockedJobs,
  listComparedFindings,
  listGoneFindings,
  listTopGroups,
} from "../../../shared/store/report.ts";
import { Problem } from "../problem.ts";
import { cursor, encodeCursor, limit, readQuery } from "../read-query.ts";
import type { Redact } from "../redact.ts";
import { buildReport } from "../report/build-report.ts";
import { renderCsv } from "../report/csv.ts";
import { renderHtml } from "../report/html.ts";
import { renderMarkdown } from "../report/markdown.ts";
import { createTimeFormat, isTimeZone } from "../report/time.ts";

const formats = { json: "application/json", html: "text/html", markdown: "text/markdown", csv: "text/csv" } as const;
type Format = keyof typeof formats;
const formatNames = Object.keys(formats) as Format[];

/** Of a page to be read; the CSV has them all. */
const maxOnPage = 3_000;
/** More than a run lists of all its kinds. */
const maxFindings = 30_000;
const topGroups = 10;
const topJobs = 20;
const RunId = v.union([
  v.literal("latest"),
  v.pipe(v.string(), v.regex(/^\d{1,15}$/), v.transform(Number), RowId),
], "must be a number, or latest");

export interface ReportDependencies {
  readonly sql: Sql;
  readonly redact: Redact;
}

/** What reconciliation runs found, to be read by people and programs: `/api/reconciliation`. */
export function createReportRoutes({ sql, redact }: ReportDependencies): Hono {
  return new Hono()
    .get("/schema", etag(), (context) => {
      readQuery(context, {});
      // Keys that are picklists are no more than names to JSON Schema.
      return context.json({
        ...toJsonSchema(Report, { errorMode: "ignore" }),
        title: "A reconciliation run, as GET /api/reconciliation/runs/{run_id} has it",
      });
    })
    .get("/runs/:run_id", etag(), async (context) => {
      const { run_id } = parse(v.object({ run_id: RunId }), context.req.param());
      const query = readQuery(context, {
        format: v.optional(v.picklist(formatNames)),
        tz: v.optional(
          v.pipe(v.string(), v.maxLength(64), v.check(isTimeZone, "is not a time zone such as Europe/Berlin")),
          "UTC",
        ),
        kind: v.optional(v.picklist(findingKinds)),
        limit: limit(1_000, 100),
        cursor: cursor(RowId),
      });
      const format = query.format ?? chooseFormat(context);
      const run = run_id === "latest" ? await findLatestReconciliationRun(sql) : await findReconciliationRun(sql, run_id);
      if (!run) throw new Problem("not-found", run_id === "latest" ? "no run has completed" : `no run has the id ${run_id}`);
      const until = new Date(run.finished_at ?? run.started_at ?? run.requested_at);
      const isFirstPage = query.cursor === undefined;
      const [page, gone, groups, blocked] = await Promise.all([
        format === "json"
          ? listComparedFindings(sql, run, { kind: query.kind, limit: query.limit, after: query.cursor })
          : listAllFindings(sql, run),
        isFirstPage && run.status === "completed" ? listGoneFindings(sql, run, 1_000) : [],
        listTopGroups(sql, { until }, topGroups),
        listBlockedJobs(sql, { until }, topJobs),
      ]);
      const report = buildReport({
        run,
        findings: page.rows,
        gone: query.kind === undefined ? gone : gone.filter(({ kind }) => kind === query.kind),
        groups,
        blocked,
        nextCursor: encodeCursor(page.next),
        redact,
      });
      context.header("vary", "accept");
      context.header("cache-control", "private, no-cache");
      const options = { formatTime: createTimeFormat(query.tz), timeZone: query.tz, maxFindings: maxOnPage };
      switch (format) {
        case "json":
          return context.json(report);
        case "html":
          context.header("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'");
          return context.html(renderHtml(report, options));
        case "markdown":
          return context.body(renderMarkdown(report, options), 200, { "content-type": "text/markdown; charset=utf-8" });
        case "csv":
          return context.body(renderCsv(report, options.formatTime), 200, {
            "content-type": "text/csv; charset=utf-8; header=present",
            "content-disposition": `attachment; filename="reconciliation-run-${run.run_id}.csv"`,
          });
      }
    });
}

/** JSON, unless the client would rather have another. */
function chooseFormat(context: Context): Format {
  const type = accepts(context, { header: "Accept", supports: Object.values(formats), default: formats.json });
  return formatNames.find((name) => formats[name] === type) ?? "json";
}

const ranks = { error: 0, warning: 1, info: 2 } as const;

/** The worst first; of each severity, in the order they were found. */
async function listAllFindings(
  sql: Sql,
  run: ReconciliationRun,
): Promise<{ readonly rows: readonly ComparedFinding[]; readonly next: null }> {
  const rows: ComparedFinding[] = [];
  for (let after = 0; rows.length < maxFindings;) {
    const page = await listComparedFindings(sql, run, { limit: 1_000, after });
    rows.push(...page.rows);
    if (page.next === null) break;
    after = page.next;
  }
  return {
    rows: rows.toSorted((one, other) => ranks[one.severity] - ranks[other.severity] || one.finding_id - other.finding_id),
    next: null,
  };
}

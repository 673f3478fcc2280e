import { type Context, Hono } from "hono";
import * as v from "valibot";
import { RowId } from "../../../shared/contracts/ids.ts";
import { parse } from "../../../shared/contracts/parse.ts";
import { runModes } from "../../../shared/contracts/reconciliation.ts";
import type { Sql } from "../../../shared/store/database.ts";
import { listReconciliationRuns, requestReconciliation } from "../../../shared/store/reconciliation.ts";
import { requireAdmin } from "../admin.ts";
import { readBody } from "../read-body.ts";
import { cursor, encodeCursor, limit, readQuery } from "../read-query.ts";

const Request = v.strictObject({ mode: v.optional(v.picklist(runModes), "dry-run") });

export interface ReconciliationDependencies {
  readonly sql: Sql;
  readonly isAdminAllowed: (context: Context) => boolean;
}

/** Requests reconciliation runs, which a poison-handler executes, and lists them: `/api/reconciliation/runs`. One run is a report. */
export function createReconciliationRoutes({ sql, isAdminAllowed }: ReconciliationDependencies): Hono {
  return new Hono()
    .post("/", async (context) => {
      const { mode } = parse(Request, await readBody(context));
      if (mode === "apply") requireAdmin(isAdminAllowed(context));
      const run = await requestReconciliation(sql, { mode, requestedBy: "api", correlationId: context.get("requestId") });
      context.get("log").info({ runId: run.run_id, mode }, "reconciliation requested");
      const link = `/api/reconciliation/runs/${run.run_id}`;
      return context.json({ ...run, links: { run: link } }, 202, { location: link });
    })
    .get("/", async (context) => {
      const query = readQuery(context, { limit: limit(100, 20), cursor: cursor(RowId) });
      const { rows, next } = await listReconciliationRuns(sql, { limit: query.limit, after: query.cursor });
      return context.json({ runs: rows, next_cursor: encodeCursor(next) });
    });
}

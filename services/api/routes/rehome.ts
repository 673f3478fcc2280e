import { type Context, Hono } from "hono";
import * as v from "valibot";
import { JobId } from "../../../shared/contracts/ids.ts";
import { ContractError, parse } from "../../../shared/contracts/parse.ts";
import type { Sql } from "../../../shared/store/database.ts";
import { rehomeJobs } from "../../../shared/store/rehome.ts";
import type { Transports } from "../../../shared/transport/send-batches.ts";
import { transportNames } from "../../../shared/transports.ts";
import { requireAdmin } from "../admin.ts";
import { readBody } from "../read-body.ts";

const Rehoming = v.strictObject({
  from: v.picklist(transportNames),
  to: v.picklist(transportNames),
  /** One job alone. Default: all that have not ended. */
  job_id: v.optional(JobId),
});

export interface RehomeDependencies {
  readonly sql: Sql;
  readonly transports: Transports;
  readonly isAdminAllowed: (context: Context) => boolean;
}

/** Moves the open jobs of a broker that is gone to another: `/api/admin/rehome`. Asking twice is harmless. */
export function createRehomeRoutes({ sql, transports, isAdminAllowed }: RehomeDependencies): Hono {
  return new Hono().post("/", async (context) => {
    requireAdmin(isAdminAllowed(context));
    const { from, to, job_id } = parse(Rehoming, await readBody(context));
    if (from === to) {
      throw new ContractError("invalid-message", [{ field: "to", message: "must be another transport than from" }]);
    }
    if (!transports.has(to)) {
      throw new ContractError("invalid-message", [{
        field: "to",
        message: `is not enabled here: ${[...transports.keys()].join(", ")}`,
      }]);
    }
    const { jobs, batches } = await rehomeJobs(sql, { from, to, jobId: job_id });
    context.get("log").warn({ from, to, jobs, batches }, "jobs rehomed");
    return context.json({ from, to, jobs, batches, message: `${jobs} jobs moved; ${batches} batches will be sent on ${to}.` });
  });
}

import { type Context, Hono } from "hono";
import { timeout } from "hono/timeout";
import * as v from "valibot";
import type { Sql } from "../../../shared/store/database.ts";
import { redeploySchema } from "../../../shared/store/migrate.ts";
import type { Transports } from "../../../shared/transport/send-batches.ts";
import { requireAdmin } from "../admin.ts";
import { Problem } from "../problem.ts";
import { readQuery } from "../read-query.ts";
import { withTimeLimit } from "../../../shared/time-limit.ts";

const purgeMs = 20_000;

export interface SchemaDependencies {
  readonly sql: Sql;
  readonly transports: Transports;
  /** The queues of a transport that jobs use, under the names they have there. */
  readonly queueNames: ReadonlyMap<string, readonly string[]>;
  readonly allowSchemaRedeploy: boolean;
  readonly isAdminAllowed: (context: Context) => boolean;
}

interface Step {
  readonly step: string;
  readonly status: "success" | "failed";
}

/** Begins anew, with nothing: `/api/db/schema`. */
export function createSchemaRoutes(
  { sql, transports, queueNames, allowSchemaRedeploy, isAdminAllowed }: SchemaDependencies,
): Hono {
  return new Hono().post("/redeploy", timeout(120_000), async (context) => {
    if (!allowSchemaRedeploy) {
      throw new Problem("forbidden", "redeploying the schema is off; ALLOW_SCHEMA_REDEPLOY=true turns it on");
    }
    requireAdmin(isAdminAllowed(context));
    readQuery(context, {
      confirm: v.pipe(v.string(), v.literal("yes", "must be yes: every job, task and message will be deleted")),
    });
    const log = context.get("log");
    log.warn("the schema is redeployed");
    const applied = await redeploySchema(sql);
    const steps: Step[] = [
      { step: "drop_schema", status: "success" },
      ...applied.map((name) => ({ step: `apply ${name}`, status: "success" as const })),
    ];
    // After the rows are gone, so that nothing sends their messages again. What slips through speaks of unknown rows.
    for (const [name, { transport }] of transports) {
      for (const queue of queueNames.get(name) ?? []) {
        const purge = async () => {
          await transport.provision([queue]); // one that was never used can't be purged on Queue Storage
          await transport.purge(queue);
        };
        const status = await withTimeLimit(purge(), purgeMs).then(() => "success" as const, (error: unknown) => {
          log.error({ err: error, transport: name, queue }, "queue not purged");
          return "failed" as const;
        });
        steps.push({ step: `purge ${name} ${queue}`, status });
      }
    }
    if (steps.some(({ status }) => status === "failed")) {
      throw new Problem("redeploy-incomplete", "ask again to purge the rest", { members: { overall_status: "partial", steps } });
    }
    return context.json({
      steps,
      overall_status: "success",
      message: "The schema was dropped and deployed, the queues were purged.",
    });
  });
}

import { type Context, Hono } from "hono";
import * as v from "valibot";
import { ContractError, parse } from "../../../shared/contracts/parse.ts";
import type { JobCatalog } from "../../../shared/jobs/catalog.ts";
import type { Sql } from "../../../shared/store/database.ts";
import { deleteRoutingRule, listRoutingRules, putRoutingRule, type RoutingRule } from "../../../shared/store/routing-rules.ts";
import { transportNames } from "../../../shared/transports.ts";
import { requireAdmin } from "../admin.ts";
import { percentileOf } from "../choose-transport.ts";
import { Problem } from "../problem.ts";
import { readBody } from "../read-body.ts";
import type { Router } from "../routing.ts";
import { routeSubmission } from "../submit-job.ts";
import { findJobType } from "./jobs.ts";

const Rule = v.strictObject({
  transport: v.picklist(transportNames),
  percent: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(100)), 100),
  min_tasks: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(10_000_000)), 0),
});

export interface RoutingDependencies {
  readonly sql: Sql;
  readonly jobs: JobCatalog;
  readonly router: Router;
  readonly isAdminAllowed: (context: Context) => boolean;
}

/** Where new jobs go: `/api/admin/routing`. */
export function createRoutingRoutes({ sql, jobs, router, isAdminAllowed }: RoutingDependencies): Hono {
  const readJobType = (context: Context): string => {
    const jobType = context.req.param("job_type") ?? "";
    return jobType === "*" ? jobType : findJobType(jobs, jobType).job.type;
  };

  return new Hono()
    .get("/rules", async (context) => {
      const { defaultTransport, fallback } = await router.current();
      return context.json({
        rules: (await listRoutingRules(sql)).map(describeRule),
        default_transport: defaultTransport,
        fallback_transport: fallback ?? null,
        transports: Object.fromEntries(router.accepting.map((name) => [name, { away: router.isAway(name) }])),
      });
    })
    .put("/rules/:job_type", async (context) => {
      requireAdmin(isAdminAllowed(context));
      const jobType = readJobType(context);
      const { transport, percent, min_tasks } = parse(Rule, await readBody(context));
      if (!router.accepting.includes(transport)) {
        const message = `takes no new jobs here; these do: ${router.accepting.join(", ")}`;
        throw new ContractError("invalid-message", [{ field: "transport", message }]);
      }
      const created = await putRoutingRule(sql, { jobType, transport, percent, minTasks: min_tasks });
      router.forget();
      context.get("log").info({ jobType, transport, percent, minTasks: min_tasks }, "routing rule put");
      return context.json({ job_type: jobType, transport, percent, min_tasks }, created ? 201 : 200);
    })
    .delete("/rules/:job_type", async (context) => {
      requireAdmin(isAdminAllowed(context));
      const jobType = context.req.param("job_type");
      if (!await deleteRoutingRule(sql, jobType)) throw new Problem("not-found", `there is no rule for ${jobType.slice(0, 100)}`);
      router.forget();
      context.get("log").info({ jobType }, "routing rule deleted");
      return context.body(null, 204);
    })
    // Takes the body of a submission and makes no job of it.
    .post("/preview/:job_type", async (context) => {
      const { job, onServiceBus } = findJobType(jobs, context.req.param("job_type"));
      const { jobId, route, estimatedTasks } = await routeSubmission(router, {
        job,
        onServiceBus,
        body: await readBody(context),
      });
      return context.json({
        job_id: jobId,
        job_type: job.type,
        transport: route.transport,
        routed_by: route.routedBy,
        rule: route.rule ? describeRule(route.rule) : null,
        percentile: percentileOf(jobId),
        estimated_tasks: estimatedTasks ?? null,
        fallback_mode: route.fallbackFrom !== null,
        fallback_from: route.fallbackFrom,
      });
    });
}

function describeRule({ jobType, transport, percent, minTasks, updatedAt }: RoutingRule) {
  return { job_type: jobType, transport, percent, min_tasks: minTasks, updated_at: updatedAt };
}

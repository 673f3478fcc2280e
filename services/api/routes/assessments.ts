import { type Context, Hono } from "hono";
import { accepts } from "hono/accepts";
import * as v from "valibot";
import { computeJobId } from "../../../shared/contracts/submission.ts";
import { assessmentIdentity, assessmentType, Report } from "../../../shared/jobs/assessment.ts";
import { hasEnded } from "../../../shared/status.ts";
import type { Sql } from "../../../shared/store/database.ts";
import { jobLinks } from "../links.ts";
import { Problem } from "../problem.ts";
import { readQuery } from "../read-query.ts";
import { getJob } from "./jobs.ts";

/** What became of a submission: `/api/assessments`. */
export function createAssessmentRoutes({ sql }: { readonly sql: Sql }): Hono {
  return new Hono().get("/:submission_id/report", async (context) => {
    const { format } = readQuery(context, { format: v.optional(v.picklist(["json", "markdown"])) });
    const parameters = assessmentIdentity(context.req.param("submission_id"));
    const jobId = computeJobId({ jobType: assessmentType, parameters, transport: undefined, repeat: 1 });
    const { job } = await getJob(sql, jobId);
    if (!job.result_data) {
      const why = hasEnded(job.status) ? `it has none: ${job.error_details?.message ?? "no reason was recorded"}` : "not yet";
      throw new Problem("not-ready", `the assessment is ${job.status}; ${why}`, {
        members: { job_id: jobId, job_status: job.status, links: jobLinks(jobId) },
      });
    }
    if (format === "markdown" || format === undefined && prefersMarkdown(context)) {
      const { report } = v.parse(v.object({ report: Report }), job.result_data);
      return context.body(report.markdown, 200, { "content-type": "text/markdown; charset=utf-8" });
    }
    return context.json({ ...job.result_data, job_id: jobId, completed_at: job.ended_at });
  });
}

function prefersMarkdown(context: Context): boolean {
  const options = { header: "Accept" as const, supports: ["application/json", "text/markdown"], default: "application/json" };
  return accepts(context, options) === "text/markdown";
}

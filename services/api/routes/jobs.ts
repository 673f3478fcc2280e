import { type Context, Hono } from "hono";
import { JobId } from "../../../shared/contracts/ids.ts";
import { parse } from "../../../shared/contracts/parse.ts";
import * as v from "valibot";
import type { JobCatalog } from "../../../shared/jobs/catalog.ts";
import type { JobDefinition } from "../../../shared/jobs/define-job.ts";
import type { Sql } from "../../../shared/store/database.ts";
import { findJobWithStages, type ListedJob, type ListedStage } from "../../../shared/store/listings.ts";
import { countPoisonOfJob } from "../../../shared/store/poison-listings.ts";
import { jobLinks } from "../links.ts";
import { Problem } from "../problem.ts";
import { readBody } from "../read-body.ts";
import { acceptSubmission, type SubmitDependencies } from "../submit-job.ts";

export function createJobRoutes(dependencies: SubmitDependencies & { readonly jobs: JobCatalog }): Hono {
  const { sql, jobs } = dependencies;
  return new Hono()
    .post("/submit/:job_type", async (context) => {
      const jobType = context.req.param("job_type");
      const { job, onServiceBus } = findJobType(jobs, jobType);
      const requestId = context.get("requestId");
      const { jobId, created, status, parameters, queueInfo } = await acceptSubmission(dependencies, {
        job,
        onServiceBus,
        body: await readBody(context),
        idempotencyKey: context.req.header("idempotency-key"),
        correlationId: requestId,
        log: context.get("log"),
      });
      const links = jobLinks(jobId);
      context.header("location", links.status);
      return context.json({
        job_id: jobId,
        status,
        job_type: job.type,
        parameters,
        message: created
          ? "The job was accepted."
          : `This job is known already and is ${status}; to run the same work again, send "repeat": 2, 3, …`,
        queue_info: queueInfo,
        request_id: requestId,
        timestamp: new Date().toISOString(),
        links,
      }, created ? 202 : 200);
    })
    .get("/status/:job_id", async (context) => {
      const jobId = readJobId(context);
      const [{ job, stages }, poison] = await Promise.all([getJob(sql, jobId), countPoisonOfJob(sql, jobId)]);
      return context.json(describeStatus(job, stages, poison));
    });
}

/** Throws ContractError if the id in the path can't be one. */
export function readJobId(context: Context): string {
  return parse(v.object({ job_id: JobId }), { job_id: context.req.param("job_id") }).job_id;
}

export async function getJob(sql: Sql, jobId: string): Promise<{ job: ListedJob; stages: readonly ListedStage[] }> {
  const found = await findJobWithStages(sql, jobId);
  if (!found) throw unknownJob(jobId);
  return found;
}

export function unknownJob(jobId: string): Problem {
  return new Problem("unknown-job", `no job has the id ${jobId}`);
}

/** The name that clients of the system before this one have for `hello_world` on Service Bus. */
const serviceBusHelloWorld = "sb_hello_world";

/** Throws Problem, naming the known types, if there is none of this name. */
export function findJobType(
  jobs: JobCatalog,
  name: string,
): { readonly job: JobDefinition; readonly onServiceBus: boolean } {
  const onServiceBus = name === serviceBusHelloWorld;
  const job = jobs.get(onServiceBus ? "hello_world" : name);
  if (!job) throw unknownJobType(jobs);
  return { job, onServiceBus };
}

function unknownJobType(jobs: JobCatalog): Problem {
  const known = [...jobs.keys(), ...(jobs.has("hello_world") ? [serviceBusHelloWorld] : [])].sort();
  return new Problem("unknown-job-type", `the known job types are ${known.join(", ")}`, { members: { known_job_types: known } });
}

/** In camelCase, as clients of the system before this one read it. */
function describeStatus(job: ListedJob, stages: readonly ListedStage[], poison: Readonly<Record<string, number>>) {
  return {
    jobId: job.job_id,
    jobType: job.job_type,
    status: job.status,
    stage: job.stage,
    totalStages: job.total_stages,
    parameters: job.parameters,
    stageResults: stageResults(stages),
    stages: stages.map(describeStage),
    processingPath: job.processing_path,
    ...(job.routed_by && { routedBy: job.routed_by }),
    ...(job.fallback_from && { fallbackFrom: job.fallback_from }),
    run: job.run,
    correlationId: job.correlation_id,
    createdAt: job.created_at,
    updatedAt: job.updated_at,
    ...(job.started_at && { startedAt: job.started_at }),
    ...(job.ended_at && { endedAt: job.ended_at }),
    ...(job.result_data && { resultData: job.result_data }),
    ...(job.error_details && { errorDetails: job.error_details.message, errorCode: job.error_details.code }),
    ...(Object.keys(poison).length > 0 && { poisonMessages: poison }),
    links: jobLinks(job.job_id),
  };
}

/** By the number of the stage, which is a text. */
export function stageResults(stages: readonly ListedStage[]): Record<string, unknown> {
  return Object.fromEntries(stages.flatMap(({ number, result }) => (result ? [[String(number), result]] : [])));
}

function describeStage(stage: ListedStage) {
  const { number, name, taskType, status, run, sealed, planned, processing, completed, failed, cancelled, error } = stage;
  const ended = completed + failed + cancelled;
  return {
    stage: number,
    name,
    taskType,
    status,
    run,
    counts: { planned, pending: planned - ended - processing, processing, completed, failed, cancelled },
    /** Percent of its tasks that ended; null as long as it isn't known how many there will be. */
    progress: !sealed ? null : planned === 0 ? 100 : Math.floor((ended / planned) * 1000) / 10,
    ...(error && { errorDetails: error.message, errorCode: error.code }),
  };
}

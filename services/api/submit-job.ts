import * as v from "valibot";
import type { Logger } from "pino";
import { ContractError, type JsonObject } from "../../shared/contracts/parse.ts";
import { computeJobId, hashJson, parseSubmission } from "../../shared/contracts/submission.ts";
import type { JobDefinition } from "../../shared/jobs/define-job.ts";
import { type Sql, withConflictRetry } from "../../shared/store/database.ts";
import { submitJobUnderKey } from "../../shared/store/idempotency-keys.ts";
import { submitJob, type SubmittedJob } from "../../shared/store/jobs.ts";
import { isStartSent } from "../../shared/store/listings.ts";
import type { Batch } from "../../shared/store/outbox.ts";
import { countLiveRunners } from "../../shared/store/runners.ts";
import { createMessages, queueName, sendBatches, type Transports } from "../../shared/transport/send-batches.ts";
import type { TransportName } from "../../shared/transports.ts";
import { chooseRoute, readNamedTransport, type Route } from "./choose-transport.ts";
import { Problem } from "./problem.ts";
import type { Router } from "./routing.ts";
import { withTimeLimit } from "../../shared/time-limit.ts";

/** How long a request waits for its message to be sent, and for what is only good to know. */
const afterCommitMs = 3_000;

export interface SubmitDependencies {
  readonly sql: Sql;
  readonly transports: Transports;
  /** Who holds the locks of what this process sends. */
  readonly sender: string;
  readonly router: Router;
}

export interface SubmitRequest {
  readonly job: JobDefinition;
  readonly body: unknown;
  /** What the address of the request says about the transport. */
  readonly onServiceBus: boolean;
  readonly idempotencyKey: string | undefined;
  readonly correlationId: string;
  readonly log: Logger;
}

export interface QueueInfo {
  /** Whether the job's start message is known to be sent. If not, the relay sends it. */
  readonly queued: boolean;
  readonly queue_name: string | null;
  readonly transport: TransportName;
  readonly processing_path: TransportName;
  readonly queue_mode: TransportName;
  /** The broker that was chosen was away when the job came: it is on the fallback transport. */
  readonly fallback_mode: boolean;
  /** Of the message this request sent. */
  readonly message_id: string | null;
  readonly warning?: string;
}

export interface SubmitAnswer {
  readonly jobId: string;
  readonly created: boolean;
  readonly status: SubmittedJob["status"];
  readonly parameters: JsonObject;
  readonly queueInfo: QueueInfo;
}

/** Commits the job with its start hint, and only then sends that: from the commit on, nothing can fail the request. */
export async function acceptSubmission(dependencies: SubmitDependencies, request: SubmitRequest): Promise<SubmitAnswer> {
  const { sql, sender, router } = dependencies;
  const { job, body, idempotencyKey, correlationId, log } = request;
  const { jobId, parameters, route } = await routeSubmission(router, request);
  const row = {
    jobId,
    jobType: job.type,
    parameters,
    processingPath: route.transport,
    routedBy: route.routedBy,
    fallbackFrom: route.fallbackFrom,
    totalStages: job.stages.length,
    correlationId,
  };
  const submitted = idempotencyKey === undefined
    ? { jobId, ...await withConflictRetry(() => submitJob(sql, sender, row)) }
    : await submitJobUnderKey(sql, sender, {
      key: parseKey(idempotencyKey),
      fingerprint: hashJson({ job_type: job.type, body }),
    }, row);
  if (!submitted) {
    throw new Problem("idempotency-conflict", "another job type or body was sent under this Idempotency-Key before");
  }
  if (job.identity && !submitted.sameParameters) {
    throw new Problem("job-conflict", "this job is known, with other parameters", { members: { job_id: submitted.jobId } });
  }
  log.info(
    { jobId: submitted.jobId, jobType: job.type, transport: submitted.processingPath, created: submitted.created },
    "job submitted",
  );
  const { created, status } = submitted;
  return { jobId: submitted.jobId, created, status, parameters, queueInfo: await sendStart(dependencies, submitted, log) };
}

/** Where a submission would go, and under which id. Throws ContractError or Problem if it would be refused. */
export async function routeSubmission(
  router: Router,
  { job, body, onServiceBus }: Pick<SubmitRequest, "job" | "body" | "onServiceBus">,
): Promise<{ readonly jobId: string; readonly parameters: JsonObject; readonly route: Route; readonly estimatedTasks?: number }> {
  const { parameters, repeat, transport, useServiceBus } = parseSubmission(job.params, body);
  if (onServiceBus && useServiceBus === false) {
    throw new ContractError("invalid-message", [{
      field: "use_service_bus",
      message: "must not be false for a job type that is on Service Bus",
    }]);
  }
  const named = readNamedTransport({ transport, useServiceBus: onServiceBus ? true : useServiceBus }, router.accepting);
  const identity = job.identity?.(parameters);
  const jobId = identity
    ? computeJobId({ jobType: job.type, parameters: identity, transport: undefined, repeat })
    : computeJobId({ jobType: job.type, parameters, transport: named, repeat });
  const estimatedTasks = job.estimateTasks?.(parameters);
  const route = chooseRoute({ jobId, jobType: job.type, named, estimatedTasks }, await router.current());
  return { jobId, parameters, route, ...(estimatedTasks !== undefined && { estimatedTasks }) };
}

async function sendStart(
  { sql, sender, transports }: SubmitDependencies,
  { jobId, created, batches, processingPath, fallbackFrom }: SubmittedJob & { readonly jobId: string },
  log: Logger,
): Promise<QueueInfo> {
  const send = async () =>
    created ? await sendBatches({ db: sql, sender, transports, log }, batches) === batches.length : await isStartSent(sql, jobId);
  const unless = <Value>(promise: Promise<Value>, otherwise: Value) =>
    withTimeLimit(promise, afterCommitMs).catch((error: unknown) => {
      log.warn({ jobId, err: error }, "the job is committed; what follows has to wait");
      return otherwise;
    });
  // A send that takes longer goes on by itself. If it gets lost, the relay sends again.
  const [queued, runners] = await Promise.all([
    unless(send(), false),
    unless<number | null>(countLiveRunners(sql, processingPath), null),
  ]);
  const queues = transports.get(processingPath)?.queues;
  return {
    queued,
    queue_name: queues ? queueName(queues, "jobs") : null,
    transport: processingPath,
    processing_path: processingPath,
    queue_mode: processingPath,
    fallback_mode: fallbackFrom !== null,
    message_id: queued ? firstMessageId(batches) : null,
    ...(runners === 0 && { warning: `no task-runner serves ${processingPath} at the moment; the job waits for one` }),
  };
}

function firstMessageId([batch]: readonly Batch[]): string | null {
  return (batch && createMessages(batch)[0]?.messageId) ?? null;
}

const Key = v.pipe(v.string(), v.regex(/^[\x21-\x7e]{1,255}$/));

function parseKey(key: string): string {
  if (v.is(Key, key)) return key;
  throw new ContractError("invalid-message", [{
    field: "Idempotency-Key",
    message: "must be 1 to 255 visible ASCII characters",
  }]);
}

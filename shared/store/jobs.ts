import type postgres from "postgres";
import type { JsonObject } from "../contracts/parse.ts";
import type { ErrorRecord } from "../errors.ts";
import type { JobStatus } from "../status.ts";
import type { TransportName } from "../transports.ts";
import { type Db, type Sql, withConflictRetry } from "./database.ts";
import { type Batch, batchJson, firstSendLeaseMs } from "./outbox.ts";
import { reopenStage } from "./reopen-stage.ts";
import { type ClaimedStage, type DeferralDelay, deferredUntil, insertStage, type StageSeed } from "./stages.ts";

/** Who chose the transport of a job: its client, a rule, or nobody. */
export type RoutedBy = "request" | "rule" | "default";

export interface Submission {
  readonly jobId: string;
  readonly jobType: string;
  readonly parameters: JsonObject;
  readonly processingPath: TransportName;
  readonly routedBy?: RoutedBy;
  /** The transport it would be on if its broker were not away. */
  readonly fallbackFrom?: TransportName | null;
  readonly totalStages: number;
  readonly correlationId: string;
}

export interface SubmittedJob {
  readonly created: boolean;
  readonly status: JobStatus;
  readonly processingPath: TransportName;
  readonly fallbackFrom: TransportName | null;
  /** Whether the job has the parameters that were submitted; another may have the same id, if its type says so. */
  readonly sameParameters: boolean;
  /** The start-job batch of a new job, locked for `sender`: to be sent now. Empty for a known one. */
  readonly batches: readonly Batch[];
}

/** Inserts a job with its start hint, once; the same id again finds it and sends nothing. */
export async function submitJob(db: Db, sender: string, submission: Submission): Promise<SubmittedJob> {
  const { jobId, jobType, parameters, processingPath, routedBy = null, fallbackFrom = null, totalStages, correlationId } =
    submission;
  const [row] = await db<SubmittedJob[]>`
    with submitted as (
      insert into jobs (id, job_type, parameters, processing_path, routed_by, fallback_from, total_stages, correlation_id)
      values (${jobId}, ${jobType}, ${
    JSON.stringify(parameters)
  }::text::jsonb, ${processingPath}, ${routedBy}, ${fallbackFrom}, ${totalStages}, ${correlationId})
      on conflict (id) do nothing
      returning *
    ), hint as (
      insert into outbox (batch_id, job_id, transport, queue, kind, run, sends, locked_by, locked_until)
      select id || '-r' || run || '-start', id, processing_path, 'jobs', 'start-job', run, 1, ${sender},
        now() + ${firstSendLeaseMs} * interval '1 ms'
      from submitted
      returning *
    ), noted as (
      insert into events (job_id, kind, details)
      select id, 'job-submitted', jsonb_build_object('processing_path', processing_path, 'routed_by', routed_by,
        'fallback_from', fallback_from)
      from submitted
    )
    select true as created, true as "sameParameters", jobs.status, processing_path as "processingPath", fallback_from as "fallbackFrom", json_build_array(${
    batchJson(db)
  }) as batches
    from submitted as jobs join hint as outbox on outbox.job_id = jobs.id`;
  if (row) return row;
  const [known] = await db<SubmittedJob[]>`
    select false as created, parameters = ${JSON.stringify(parameters)}::text::jsonb as "sameParameters", status,
      processing_path as "processingPath", fallback_from as "fallbackFrom", '[]'::json as batches from jobs where id = ${jobId}`;
  if (!known) throw new Error(`job ${jobId} was deleted while it was submitted`);
  return known;
}

export interface JobRow {
  readonly jobId: string;
  readonly jobType: string;
  readonly parameters: JsonObject;
  readonly status: JobStatus;
  readonly run: number;
  readonly correlationId: string;
  /** The number of the stage that this run starts from. */
  readonly firstStage: number;
}

export async function findJob(db: Db, jobId: string): Promise<JobRow | null> {
  const [job] = await db<JobRow[]>`
    select id as "jobId", job_type as "jobType", parameters, status, run, correlation_id as "correlationId",
      coalesce(resume_from, 1) as "firstStage"
    from jobs where id = ${jobId}`;
  return job ?? null;
}

/**
 * Starts a queued job of this run: it becomes `processing` and the stage it starts from is there. A new one, or one that is to be
 * planned further, is owned by `owner` under a lease and returned; null if there is none, or if the job is not waiting to be
 * started (any more).
 */
export async function startJob(
  sql: Sql,
  owner: string,
  { jobId, run, stage }: { jobId: string; run: number; stage: StageSeed },
): Promise<ClaimedStage | null> {
  return await withConflictRetry(() =>
    sql.begin(async (tx) => {
      const [job] = await tx<{ epoch: number; resumeFrom: number | null; selected: boolean }[]>`
        update jobs set status = 'processing', started_at = coalesce(started_at, now()), current_stage = ${stage.number},
          epoch = epoch + 1, updated_at = now()
        where id = ${jobId} and run = ${run} and status = 'queued' and coalesce(resume_from, 1) = ${stage.number}
        returning epoch, resume_from as "resumeFrom", resume_selected as selected`;
      if (!job) return null;
      await tx`insert into events (job_id, kind, details) values (${jobId}, 'job-started', ${tx.json({ run })})`;
      if (job.resumeFrom === null) return await insertStage(tx, owner, jobId, job.epoch, stage);
      const { number } = stage;
      return await reopenStage(tx, owner, { jobId, jobRun: run, number, run: job.epoch, selected: job.selected });
    })
  );
}

/** A hint of a job's start under a new number, from a row source that already counted `start_sends`; due at once, if not said otherwise. */
export function startHint(
  db: Db,
  jobs: postgres.PendingQuery<postgres.Row[]>,
  dueAt: postgres.PendingQuery<postgres.Row[]> = db`now()`,
): postgres.PendingQuery<postgres.Row[]> {
  return db`
    insert into outbox (batch_id, job_id, transport, queue, kind, run, not_before)
    select id || '-r' || run || '-start-h' || start_sends, id, processing_path, 'jobs', 'start-job', run, ${dueAt} from ${jobs}
    on conflict (batch_id) do nothing`;
}

/**
 * Puts off the start of a queued job of this run, whose type the caller doesn't know: a new hint is due after `delay` doubled with
 * each time. A second copy of the hint counts for nothing while that one waits. Returns how often it was put off in all, or null
 * if there is nothing to put off.
 */
export async function deferJob(
  db: Db,
  { jobId, run, delay }: { jobId: string; run: number; delay: DeferralDelay },
): Promise<number | null> {
  const [row] = await withConflictRetry(() =>
    db<{ deferrals: number }[]>`
    with deferred as (
      update jobs set deferrals = deferrals + 1, start_sends = start_sends + 1, updated_at = now()
      where id = ${jobId} and run = ${run} and status = 'queued'
        and not exists (select from outbox where job_id = jobs.id and kind = 'start-job' and outbox.status = 'pending_queue'
          and not_before > now())
      returning *
    ), hint as (${startHint(db, db`deferred`, deferredUntil(db, delay))}), noted as (
      insert into events (job_id, kind, details)
      select id, 'job-deferred', jsonb_build_object('job_type', job_type, 'deferrals', deferrals) from deferred
    )
    select deferrals from deferred`
  );
  return row?.deferrals ?? null;
}

/** A job that waits for a type that nobody here knows, or failed for good before it could start, ends through `stopping`. */
export async function stopJob(
  sql: Sql,
  { jobId, as, error }: { jobId: string; as: "failed" | "cancelled"; error: ErrorRecord | null },
): Promise<boolean> {
  return await withConflictRetry(() => sql.begin((tx) => stopJobWithin(tx, { jobId, as, error })));
}

/** The same within a transaction of the caller's, who repeats that if it loses against another. */
export async function stopJobWithin(
  tx: Db,
  { jobId, as, error }: { jobId: string; as: "failed" | "cancelled"; error: ErrorRecord | null },
): Promise<boolean> {
  const errorJson = error && JSON.stringify(error);
  // The job row first, tasks only in later statements: as one statement it would miss rows (protocol, rule 25).
  const [job] = await tx`
    update jobs set status = 'stopping', stop_as = ${as}, error = ${errorJson}::text::jsonb, updated_at = now()
    where id = ${jobId} and status in ('queued', 'processing')
    returning id`;
  if (!job) return false;
  await tx`
    update stages set status = ${as}, owner = null, lease_until = null, ended_at = now(), error = ${errorJson}::text::jsonb
    where job_id = ${jobId} and discarded_at is null and status in ('planning', 'open', 'reducing')`;
  await tx`
    insert into events (job_id, kind, details)
    values (${jobId}, 'job-stopping', ${JSON.stringify({ as, error })}::text::jsonb)`;
  return true;
}

/** Ends a stopping job that has nothing open any more. Returns the jobs that ended. */
export async function endStoppedJobs(db: Db, jobId: string | null = null): Promise<readonly string[]> {
  const rows = await withConflictRetry(() =>
    db<{ id: string }[]>`
    with ended as (
      update jobs set status = stop_as, stop_as = null, ended_at = now(), updated_at = now()
      where status = 'stopping' and ${jobId === null ? db`true` : db`id = ${jobId}`}
        and not exists (
          select from stages where job_id = jobs.id and discarded_at is null and planned > completed + failed + cancelled)
      returning id, status
    ), noted as (
      insert into events (job_id, kind, details) select id, 'job-ended', jsonb_build_object('status', status) from ended
    )
    select id from ended`
  );
  return rows.map(({ id }) => id);
}

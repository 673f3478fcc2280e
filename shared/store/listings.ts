import type postgres from "postgres";
import type { JsonObject } from "../contracts/parse.ts";
import type { StageResult } from "../contracts/stage-result.ts";
import type { ErrorRecord } from "../errors.ts";
import type { JobStatus, StageStatus, TaskStatus } from "../status.ts";
import type { TransportName } from "../transports.ts";
import type { Db } from "./database.ts";
import type { RoutedBy } from "./jobs.ts";

/** Up to `limit` rows in a fixed order, and where the next page begins; null after the last. */
export interface Page<Row, Cursor> {
  readonly rows: readonly Row[];
  readonly next: Cursor | null;
}

export interface ListedJob {
  readonly job_id: string;
  readonly job_type: string;
  readonly status: JobStatus;
  readonly stage: number;
  readonly total_stages: number;
  readonly parameters: JsonObject;
  readonly result_data: JsonObject | null;
  readonly error_details: ErrorRecord | null;
  readonly processing_path: TransportName;
  readonly routed_by: RoutedBy | null;
  readonly fallback_from: TransportName | null;
  readonly run: number;
  readonly correlation_id: string;
  readonly created_at: Date;
  readonly updated_at: Date;
  readonly started_at: Date | null;
  readonly ended_at: Date | null;
}

function listedJob(db: Db): postgres.PendingQuery<postgres.Row[]> {
  return db`id as job_id, job_type, status, current_stage as stage, total_stages, parameters, result as result_data,
    error as error_details, processing_path, routed_by, fallback_from, run, correlation_id, created_at, updated_at, started_at, ended_at`;
}

/** Microseconds since 1970, as finely as Postgres tells rows apart, and the id. */
export interface JobCursor {
  readonly createdAtUs: number;
  readonly jobId: string;
}

/** Newest first. */
export async function listJobs(
  db: Db,
  { status, jobType, hours, limit, after }: {
    readonly status?: JobStatus | undefined;
    readonly jobType?: string | undefined;
    readonly hours?: number | undefined;
    readonly limit: number;
    readonly after?: JobCursor | undefined;
  },
): Promise<Page<ListedJob, JobCursor>> {
  const afterTime = after && db`timestamptz 'epoch' + ${after.createdAtUs} * interval '1 microsecond'`;
  const rows = await db<(ListedJob & { created_at_us: number })[]>`
    select ${listedJob(db)}, (extract(epoch from created_at) * 1000000)::bigint as created_at_us from jobs
    where true ${status ? db`and status = ${status}` : db``} ${jobType ? db`and job_type = ${jobType}` : db``}
      ${hours ? db`and created_at > now() - ${hours} * interval '1 hour'` : db``}
      ${after && afterTime ? db`and created_at <= ${afterTime} and (created_at < ${afterTime} or id > ${after.jobId})` : db``}
    order by created_at desc, id limit ${limit + 1}`;
  return pageOf(
    rows.map(({ created_at_us, ...job }) => ({ row: job, cursor: { createdAtUs: created_at_us, jobId: job.job_id } })),
    limit,
  );
}

export interface ListedStage {
  readonly number: number;
  readonly name: string;
  readonly taskType: string;
  readonly status: StageStatus;
  readonly run: number;
  readonly sealed: boolean;
  readonly planned: number;
  readonly processing: number;
  readonly completed: number;
  readonly failed: number;
  readonly cancelled: number;
  readonly result: StageResult | null;
  readonly error: ErrorRecord | null;
}

/** A job and its stages, in one snapshot. Stages that were discarded are left out. */
export async function findJobWithStages(
  db: Db,
  jobId: string,
): Promise<{ readonly job: ListedJob; readonly stages: readonly ListedStage[] } | null> {
  const [row] = await db<(ListedJob & { stages: readonly ListedStage[] | null })[]>`
    with running as materialized ( -- all there are: few, and in an index of their own
      select stage_id, count(*)::int as processing from tasks where status = 'processing' group by stage_id
    )
    select ${listedJob(db)}, (
      select json_agg(json_build_object('number', number, 'name', name, 'taskType', task_type, 'status', status, 'run', run,
        'sealed', sealed, 'planned', planned, 'processing', coalesce(processing, 0), 'completed', completed, 'failed', failed,
        'cancelled', cancelled, 'result', result, 'error', error) order by number)
      from stages left join running on stage_id = stages.id
      where job_id = jobs.id and discarded_at is null
    ) as stages
    from jobs where id = ${jobId}`;
  if (!row) return null;
  const { stages, ...job } = row;
  return { job, stages: stages ?? [] };
}

export async function isKnownJob(db: Db, jobId: string): Promise<boolean> {
  const [row] = await db`select from jobs where id = ${jobId}`;
  return row !== undefined;
}

/** Whether the newest start hint of a job has been sent. */
export async function isStartSent(db: Db, jobId: string): Promise<boolean> {
  const [row] = await db<{ sent: boolean }[]>`
    select status = 'queued' as sent from outbox where job_id = ${jobId} and kind = 'start-job' order by id desc limit 1`;
  return row?.sent ?? false;
}

export interface ListedTask {
  readonly task_id: number;
  readonly parent_job_id: string;
  readonly job_type: string;
  readonly task_type: string;
  readonly status: TaskStatus;
  /** Of a pending task, whether its newest hint has been sent. */
  readonly queue_status: "pending_queue" | "queued" | null;
  readonly batch_id: string | null;
  readonly stage: number;
  readonly task_index: number;
  readonly parameters: JsonObject;
  readonly result_data: JsonObject | null;
  readonly result_ref: string | null;
  readonly error_details: ErrorRecord | null;
  readonly attempt: number;
  readonly retry_count: number;
  readonly interruptions: number;
  readonly runner_id: string | null;
  readonly not_before: Date | null;
  readonly created_at: Date;
  readonly claimed_at: Date | null;
  readonly ended_at: Date | null;
}

function listedTask(db: Db): postgres.PendingQuery<postgres.Row[]> {
  return db`tasks.id as task_id, stages.job_id as parent_job_id, job_type, task_type, tasks.status,
    case tasks.status when 'pending' then outbox.status end as queue_status, batch_id, stages.number as stage, index as task_index,
    tasks.parameters, tasks.result as result_data, result_ref, tasks.error as error_details, attempt, tasks.failures as retry_count,
    tasks.interruptions, runner_id, tasks.not_before, tasks.created_at, claimed_at, tasks.ended_at`;
}

/** Tasks of all jobs, newest first. The cursor is a task's id. */
export async function listTasks(
  db: Db,
  { status, jobType, stage, hours, limit, after }: {
    readonly status?: TaskStatus | undefined;
    readonly jobType?: string | undefined;
    readonly stage?: number | undefined;
    readonly hours?: number | undefined;
    readonly limit: number;
    readonly after?: number | undefined;
  },
): Promise<Page<ListedTask, number>> {
  const rows = await db<ListedTask[]>`
    select ${listedTask(db)}
    from tasks join stages on stages.id = stage_id join jobs on jobs.id = job_id left join outbox on outbox.id = outbox_id
    where discarded_at is null ${status ? db`and tasks.status = ${status}` : db``}
      ${jobType ? db`and job_type = ${jobType}` : db``} ${stage ? db`and stages.number = ${stage}` : db``}
      ${hours ? db`and tasks.created_at > now() - ${hours} * interval '1 hour'` : db``}
      ${after ? db`and tasks.id < ${after}` : db``}
    order by tasks.id desc limit ${limit + 1}`;
  return pageOf(rows.map((row) => ({ row, cursor: row.task_id })), limit);
}

export interface TaskCursor {
  readonly stage: number;
  readonly index: number;
}

/** The tasks of a job in the order of stage and index. A page reads no more rows than it gives, per stage, if no status is asked for. */
export async function listTasksOfJob(
  db: Db,
  jobId: string,
  { status, stage, limit, after = { stage: 0, index: -1 } }: {
    readonly status?: TaskStatus | undefined;
    readonly stage?: number | undefined;
    readonly limit: number;
    readonly after?: TaskCursor | undefined;
  },
): Promise<Page<ListedTask, TaskCursor>> {
  const rows = await db<ListedTask[]>`
    select ${listedTask(db)}
    from jobs join stages on stages.job_id = jobs.id
    cross join lateral (
      select * from tasks
      where stage_id = stages.id and index > case stages.number when ${after.stage}::int then ${after.index}::int else -1 end
        ${status ? db`and status = ${status}` : db``}
      order by index limit ${limit + 1}
    ) as tasks
    left join outbox on outbox.id = outbox_id
    where jobs.id = ${jobId} and discarded_at is null and stages.number >= ${after.stage}
      ${stage ? db`and stages.number = ${stage}` : db``}
    order by stages.number, index limit ${limit + 1}`;
  return pageOf(rows.map((row) => ({ row, cursor: { stage: row.stage, index: row.task_index } })), limit);
}

export interface ListedBatch {
  readonly batch_id: string;
  readonly kind: "start-job" | "stage" | "tasks";
  readonly stage: number | null;
  readonly transport: TransportName;
  readonly queue: string;
  readonly task_count: number;
  readonly batch_status: "pending_queue" | "queued";
  readonly batch_time: Date;
  readonly not_before: Date;
  readonly sent_at: Date | null;
  readonly sends: number;
  readonly last_error: string | null;
}

/** The batches of a job in the order they were made. The cursor is a row's id. */
export async function listBatches(
  db: Db,
  jobId: string,
  { status, limit, after = 0 }: {
    readonly status?: "pending_queue" | "queued" | undefined;
    readonly limit: number;
    readonly after?: number | undefined;
  },
): Promise<Page<ListedBatch, number>> {
  const rows = await db<(ListedBatch & { id: number })[]>`
    select outbox.id, batch_id, kind, number as stage, transport, outbox.queue, cardinality(task_ids) as task_count,
      outbox.status as batch_status, outbox.created_at as batch_time, outbox.not_before, sent_at, outbox.sends, last_error
    from outbox left join stages on stages.id = stage_id
    where outbox.job_id = ${jobId} and outbox.id > ${after} ${status ? db`and outbox.status = ${status}` : db``}
    order by outbox.id limit ${limit + 1}`;
  return pageOf(rows.map(({ id, ...row }) => ({ row, cursor: id })), limit);
}

export interface BatchTotals {
  readonly batches: number;
  readonly pending_queue: number;
  readonly queued: number;
  /** Hints of tasks: a task that is retried or sent again counts once more. */
  readonly task_hints: number;
}

export async function countBatches(db: Db, jobId: string): Promise<BatchTotals> {
  const [totals] = await db<[BatchTotals]>`
    select count(*)::int as batches, count(*) filter (where status = 'pending_queue')::int as pending_queue,
      count(*) filter (where status = 'queued')::int as queued, coalesce(sum(cardinality(task_ids)), 0)::int as task_hints
    from outbox where job_id = ${jobId}`;
  return totals;
}

/** Rows that were read with one more than `limit`, cut to a page. */
export function pageOf<Row, Cursor>(found: readonly { row: Row; cursor: Cursor }[], limit: number): Page<Row, Cursor> {
  const page = found.slice(0, limit);
  return { rows: page.map(({ row }) => row), next: found.length > limit ? page.at(-1)?.cursor ?? null : null };
}

/** Rows per status, exact. Tasks are counted by their stages, as there may be millions. */
export async function countByStatus(
  db: Db,
): Promise<Readonly<Record<"jobs" | "stages" | "tasks" | "batches", Record<string, number>>>> {
  const rows = await db<{ table: "jobs" | "stages" | "tasks" | "batches"; status: string; count: number }[]>`
    with counted as (
      select coalesce(sum(planned), 0) as planned, coalesce(sum(completed), 0) as completed, coalesce(sum(failed), 0) as failed,
        coalesce(sum(cancelled), 0) as cancelled,
        (select count(*) from tasks where status = 'processing') as processing
      from stages
    )
    select 'jobs' as table, status, count(*)::int as count from jobs group by status
    union all select 'stages', status, count(*)::int from stages where discarded_at is null group by status
    union all select 'batches', status, count(*)::int from outbox group by status
    union all
    select 'tasks', counts.status, counts.count::int from counted cross join lateral (values
      ('pending', planned - completed - failed - cancelled - processing), ('processing', processing), ('completed', completed),
      ('failed', failed), ('cancelled', cancelled)) as counts (status, count)
    where counts.count > 0`;
  const counts: Record<"jobs" | "stages" | "tasks" | "batches", Record<string, number>> = {
    jobs: {},
    stages: {},
    tasks: {},
    batches: {},
  };
  for (const { table, status, count } of rows) counts[table][status] = count;
  return counts;
}

/** What Postgres itself knows of our tables and indexes. */
export async function readTableStatistics(
  db: Db,
): Promise<{ readonly tables: readonly JsonObject[]; readonly indexes: readonly JsonObject[] }> {
  const tables = await db`
    select relname as table_name, n_live_tup as live_rows, n_dead_tup as dead_rows, n_tup_ins as inserted, n_tup_upd as updated,
      n_tup_del as deleted, pg_total_relation_size(relid) as total_bytes, last_autovacuum, last_autoanalyze
    from pg_stat_user_tables where schemaname = current_schema() order by relname`;
  const indexes = await db`
    select relname as table_name, indexrelname as index_name, idx_scan as scans, pg_relation_size(indexrelid) as bytes
    from pg_stat_user_indexes where schemaname = current_schema() order by relname, indexrelname`;
  return { tables, indexes };
}

export interface Activity {
  readonly jobs_submitted_last_hour: number;
  readonly jobs_submitted_last_day: number;
  readonly jobs_ended_last_hour: number;
  readonly jobs_ended_last_day: number;
  readonly live_runners: Readonly<Partial<Record<TransportName, number>>>;
}

export async function readActivity(db: Db): Promise<Activity> {
  const [activity] = await db<[Activity]>`
    select count(*) filter (where created_at > now() - interval '1 hour')::int as jobs_submitted_last_hour,
      count(*) filter (where created_at > now() - interval '1 day')::int as jobs_submitted_last_day,
      count(*) filter (where ended_at > now() - interval '1 hour')::int as jobs_ended_last_hour,
      count(*) filter (where ended_at > now() - interval '1 day')::int as jobs_ended_last_day,
      (select coalesce(json_object_agg(processing_path, live), '{}') from (
        select processing_path, count(*) as live from runners where lease_until > now() group by processing_path
      ) as counted) as live_runners
    from jobs`;
  return activity;
}

/** The newest migration that was applied. */
export async function readSchemaVersion(db: Db): Promise<string | null> {
  const [row] = await db<{ name: string | null }[]>`select max(name) as name from schema_migrations`;
  return row?.name ?? null;
}

/** Per transport and queue: messages in the outbox that are not due yet. */
export async function countScheduledMessages(
  db: Db,
): Promise<readonly { readonly transport: TransportName; readonly queue: string; readonly messages: number }[]> {
  return await db<{ transport: TransportName; queue: string; messages: number }[]>`
    select transport, queue, sum(messages)::int as messages from (
      select transport, queue, 1 as messages from outbox
      where status = 'pending_queue' and kind <> 'tasks' and not_before > now()
      union all
      select transport, queue, ceil(cardinality(task_ids)::float / tasks_per_message) from outbox
      where status = 'pending_queue' and kind = 'tasks' and not_before > now()
    ) as waiting group by transport, queue`;
}

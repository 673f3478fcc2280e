import type postgres from "postgres";
import type {
  FindingKind,
  ReconciliationFinding,
  ReconciliationRun,
  ReconciliationSummary,
  RunMode,
} from "../contracts/reconciliation.ts";
import type { ErrorRecord } from "../errors.ts";
import type { Db } from "./database.ts";
import type { Page } from "./listings.ts";

/** Runs that are kept; older ones go when a new one completes. */
const keptRuns = 500;

/** Times as JSON has them, to the millisecond. */
function iso(db: Db, column: string): postgres.PendingQuery<postgres.Row[]> {
  return db`to_char(${db(column)} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as ${db(column)}`;
}

function listedRun(db: Db): postgres.PendingQuery<postgres.Row[]> {
  return db`id as run_id, mode, status, requested_by, ${iso(db, "requested_at")}, ${iso(db, "started_at")}, ${
    iso(db, "finished_at")
  },
    schema_version, previous_run, summary, error`;
}

/** Newest first. The cursor is a run's id. */
export async function listReconciliationRuns(
  db: Db,
  { limit, after }: { readonly limit: number; readonly after?: number | undefined },
): Promise<Page<ReconciliationRun, number>> {
  const rows = await db<ReconciliationRun[]>`
    select ${listedRun(db)} from reconciliation_runs ${after === undefined ? db`` : db`where id < ${after}`}
    order by id desc limit ${limit + 1}`;
  const page = rows.slice(0, limit);
  return { rows: page, next: rows.length > limit ? page.at(-1)?.run_id ?? null : null };
}

export async function findReconciliationRun(db: Db, runId: number): Promise<ReconciliationRun | null> {
  const [run] = await db<ReconciliationRun[]>`select ${listedRun(db)} from reconciliation_runs where id = ${runId}`;
  return run ?? null;
}

/** The newest run that completed. */
export async function findLatestReconciliationRun(db: Db): Promise<ReconciliationRun | null> {
  const [run] = await db<ReconciliationRun[]>`
    select ${listedRun(db)} from reconciliation_runs where status = 'completed' order by id desc limit 1`;
  return run ?? null;
}

/** Findings of a run in the order they were found. The cursor is a finding's id. */
export async function listReconciliationFindings(
  db: Db,
  runId: number,
  { kind, limit, after = 0 }: {
    readonly kind?: FindingKind | undefined;
    readonly limit: number;
    readonly after?: number | undefined;
  },
): Promise<Page<ReconciliationFinding, number>> {
  const rows = await db<ReconciliationFinding[]>`
    select id as finding_id, kind, severity, subject_type, subject_id, job_id, stage_id, task_id, transport, queue, message,
      suggested_action, repairable, ${iso(db, "repaired_at")}
    from reconciliation_findings
    where run_id = ${runId} and id > ${after} ${kind === undefined ? db`` : db`and kind = ${kind}`}
    order by id limit ${limit + 1}`;
  const page = rows.slice(0, limit);
  return { rows: page, next: rows.length > limit ? page.at(-1)?.finding_id ?? null : null };
}

/** Writes the intent. One that waits in the same mode already is the same run. */
export async function requestReconciliation(
  db: Db,
  { mode, requestedBy, correlationId = null }: {
    readonly mode: RunMode;
    readonly requestedBy: ReconciliationRun["requested_by"];
    readonly correlationId?: string | null;
  },
): Promise<ReconciliationRun> {
  const [known] = await db<ReconciliationRun[]>`
    select ${listedRun(db)} from reconciliation_runs where status = 'requested' and mode = ${mode} order by id limit 1`;
  if (known) return known;
  const [run] = await db<ReconciliationRun[]>`
    insert into reconciliation_runs (mode, requested_by, correlation_id) values (${mode}, ${requestedBy}, ${correlationId})
    returning ${listedRun(db)}`;
  if (!run) throw new Error("the reconciliation run was not inserted");
  return run;
}

/** Whether no run was requested for so long, nor the schema changed: a new system has nothing to reconcile yet. */
function isDue(db: Db, intervalMs: number): postgres.PendingQuery<postgres.Row[]> {
  return db`${intervalMs}::float > 0 and not exists (
      select from reconciliation_runs where requested_at > now() - ${intervalMs} * interval '1 ms'
      union all select from schema_migrations where applied_at > now() - ${intervalMs} * interval '1 ms')`;
}

/** Requests a dry run if one is due and nothing waits or runs. To be called under the lease of reconciliation. */
export async function requestScheduledReconciliation(db: Db, intervalMs: number): Promise<boolean> {
  const requested = await db`
    insert into reconciliation_runs (mode, requested_by)
    select 'dry-run', 'schedule'
    where ${isDue(db, intervalMs)} and not exists (select from reconciliation_runs where status in ('requested', 'running'))`;
  return requested.count > 0;
}

/** Whether a run waits, was left by an executor that died, or is due. */
export async function isReconciliationWanted(db: Db, intervalMs: number): Promise<boolean> {
  const [row] = await db<{ wanted: boolean }[]>`
    select exists (select from reconciliation_runs where status in ('requested', 'running')) or ${
    isDue(db, intervalMs)
  } as wanted`;
  return row?.wanted ?? false;
}

/** Runs that are running although nobody but the caller holds the lease: their executors died. Returns their ids. */
export async function failAbandonedRuns(db: Db): Promise<readonly number[]> {
  const error: ErrorRecord = { code: "executor-died", message: "executor died: the process that executed the run is gone" };
  const rows = await db<{ id: number }[]>`
    update reconciliation_runs set status = 'failed', finished_at = now(), error = ${JSON.stringify(error)}::text::jsonb
    where status = 'running' returning id`;
  return rows.map(({ id }) => id);
}

export interface TakenRun {
  readonly runId: number;
  readonly mode: RunMode;
  readonly correlationId: string | null;
  /** Null: none has completed before. */
  readonly previousRun: number | null;
  /** The newest event when the run before began. */
  readonly eventsAfter: number | null;
}

/** Takes the run that has waited longest. To be called under the lease of reconciliation. */
export async function takeReconciliationRun(db: Db, executor: string): Promise<TakenRun | null> {
  const [run] = await db<TakenRun[]>`
    with previous as (
      select id, events_until from reconciliation_runs where status = 'completed' order by id desc limit 1
    ), waiting as (
      select id from reconciliation_runs where status = 'requested' order by id limit 1 for update skip locked
    )
    update reconciliation_runs as run set status = 'running', started_at = now(), executor = ${executor},
      previous_run = (select id from previous), events_until = (select coalesce(max(id), 0) from events),
      schema_version = (select max(name) from schema_migrations)
    from waiting where run.id = waiting.id
    returning run.id as "runId", mode, correlation_id as "correlationId", previous_run as "previousRun",
      (select events_until from previous) as "eventsAfter"`;
  return run ?? null;
}

/** A finding as a check makes it. */
export type NewFinding = Omit<ReconciliationFinding, "finding_id" | "repaired_at">;

/** Writes findings of a run and returns their ids, in their order. */
export async function insertFindings(db: Db, runId: number, findings: readonly NewFinding[]): Promise<readonly number[]> {
  const rows = await db<{ id: number }[]>`
    insert into reconciliation_findings (run_id, kind, severity, subject_type, subject_id, job_id, stage_id, task_id, transport, queue,
      message, suggested_action, repairable)
    select ${runId}::bigint, kind, severity, subject_type, subject_id, job_id, stage_id, task_id, transport, queue, message, suggested_action,
      repairable
    from json_to_recordset(${JSON.stringify(findings)}::text::json) as finding(kind text, severity text, subject_type text,
      subject_id text, job_id text, stage_id bigint, task_id bigint, transport text, queue text, message text, suggested_action text,
      repairable boolean)
    returning id`;
  return rows.map(({ id }) => id);
}

/** Says of findings that they are repaired, and notes it among the events of their jobs. */
export async function markRepaired(db: Db, findingIds: readonly number[]): Promise<void> {
  await db`
    with repaired as (
      update reconciliation_findings set repaired_at = now()
      where id in (select value::bigint from json_array_elements_text(${
    JSON.stringify(findingIds)
  }::text::json)) and repaired_at is null
      returning *
    )
    insert into events (job_id, stage_id, task_id, kind, details)
    select jobs.id, stage_id, task_id, 'reconciliation-repaired', jsonb_build_object('run', run_id, 'kind', kind, 'message', message)
    from repaired join jobs on jobs.id = job_id`;
}

/** Per kind, against the run before: listed findings that it had not, and its own that are gone. */
export async function compareFindings(
  db: Db,
  runId: number,
  previousRun: number | null,
): Promise<
  ReadonlyMap<string, { readonly listed: number; readonly repaired: number; readonly appeared: number; readonly gone: number }>
> {
  const rows = await db<{ kind: string; listed: number; repaired: number; appeared: number; gone: number }[]>`
    with now_found as (
      select kind, subject_type, subject_id, count(*) as listed, count(repaired_at) as repaired
      from reconciliation_findings where run_id = ${runId} group by kind, subject_type, subject_id
    ), before as (
      select distinct kind, subject_type, subject_id from reconciliation_findings where run_id = ${previousRun}::bigint
    )
    select kind, coalesce(sum(listed), 0)::int as listed, coalesce(sum(repaired), 0)::int as repaired,
      count(*) filter (where before_id is null)::int as appeared, count(*) filter (where found_id is null)::int as gone
    from (select *, subject_id as found_id from now_found) as now_found
    full join (select *, subject_id as before_id from before) as before using (kind, subject_type, subject_id)
    group by kind`;
  return new Map(rows.map(({ kind, ...counts }) => [kind, counts]));
}

/** Ends a run that this executor still has; false if it was taken for dead meanwhile. Old runs go. */
export async function completeReconciliationRun(
  db: Db,
  executor: string,
  runId: number,
  summary: ReconciliationSummary,
): Promise<boolean> {
  const completed = await db`
    update reconciliation_runs set status = 'completed', finished_at = now(), summary = ${JSON.stringify(summary)}::text::jsonb
    where id = ${runId} and status = 'running' and executor = ${executor}`;
  await db`
    delete from reconciliation_runs where id in (
      select id from reconciliation_runs where status in ('completed', 'failed') order by id desc offset ${keptRuns})`;
  return completed.count === 1;
}

export async function failReconciliationRun(db: Db, executor: string, runId: number, error: ErrorRecord): Promise<void> {
  await db`
    update reconciliation_runs set status = 'failed', finished_at = now(), error = ${JSON.stringify(error)}::text::jsonb
    where id = ${runId} and status = 'running' and executor = ${executor}`;
}

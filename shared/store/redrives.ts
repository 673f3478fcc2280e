import type postgres from "postgres";
import type { NewRedrive, ParameterEdit } from "../contracts/poison-selection.ts";
import type { JsonObject } from "../contracts/parse.ts";
import { type Db, type Sql, withConflictRetry } from "./database.ts";
import { dropLease, takeLease } from "./leases.ts";
import { freezeMessages, freezeTasks, selectsTask, type SliceEnd } from "./redrive-selection.ts";

export const redriveStatuses = ["selecting", "preview", "running", "stopped", "completed"] as const;
export type RedriveStatus = typeof redriveStatuses[number];

/** A larger selection is refused: make it narrower. */
export const maxItems = 1_000_000;
const sliceSize = 2_000;
/** With an edit, the parameters of a slice are in memory. */
const editedSliceSize = 200;

/** An item whose parameters are to be edited: what they would be. */
export interface EditedItem {
  readonly itemId: number;
  readonly jobType: string;
  readonly stage: number;
  readonly parameters: JsonObject;
}

/** Checks edited parameters by the schema of their task type: what is stored instead, or what is wrong with them. */
export type CheckEdited = (item: EditedItem) => { readonly parameters: JsonObject } | { readonly problem: string };

/** A redrive whose selection is to be frozen: what was there when it was asked for. */
export interface Selecting {
  readonly redriveId: number;
  readonly lastMessage: number;
  readonly lastTask: number;
}

/** The lease of a redrive: whoever freezes its selection holds it, then whoever works on it. */
export function redriveLease(redriveId: number): string {
  return `redrive-${redriveId}`;
}
const freezer = "selection";
/** A slice is one transaction of two statements, each within their time limit of a minute. */
const freezingMs = 150_000;

/** Writes a redrive without its items, and takes its lease for whoever freezes them. */
export async function createRedrive(sql: Sql, by: string, request: NewRedrive): Promise<Selecting> {
  const { select, edit, rate_per_second, canary, max_failure_share, note } = request;
  const selection = JSON.stringify(select);
  return await sql.begin(async (tx) => {
    const [redrive] = await tx<Selecting[]>`
    with created as (
      insert into redrives (selection, edit, rate_per_second, canary, max_failure_share, requested_by, note)
      values (${selection}::text::jsonb, ${edit ? JSON.stringify(edit) : null}::text::jsonb, ${rate_per_second ?? null},
        ${canary}, ${max_failure_share}, ${by}, ${note ?? null})
      returning id
    ), noted as (
      insert into events (kind, details)
      select 'redrive-created', jsonb_build_object('redrive', id, 'by', ${by}::text, 'select', ${selection}::text::jsonb) from created
    )
    select id as "redriveId", coalesce((select max(id) from poison_messages), 0) as "lastMessage",
      coalesce((select max(id) from tasks), 0) as "lastTask"
    from created`;
    if (!redrive) throw new Error("the redrive was not inserted");
    await takeLease(tx, redriveLease(redrive.redriveId), freezer, freezingMs);
    return redrive;
  });
}

/**
 * Freezes the selection of a redrive as items, slice by slice, each its own transaction; it is a `preview` when all are there. One
 * that was left in the middle can't be started, and is stopped when its lease has expired.
 */
export async function freezeSelection(
  sql: Sql,
  selecting: Selecting,
  request: { readonly request: NewRedrive; readonly checkEdited: CheckEdited },
): Promise<void> {
  await freezeSlices(sql, selecting, request);
  await dropLease(sql, redriveLease(selecting.redriveId), freezer).catch(() => {}); // or it expires
}

async function freezeSlices(
  sql: Sql,
  { redriveId, lastMessage, lastTask }: Selecting,
  { request: { select, edit }, checkEdited }: { readonly request: NewRedrive; readonly checkEdited: CheckEdited },
): Promise<void> {
  const limit = edit ? editedSliceSize : sliceSize;
  const freezers: [upTo: number, freeze: (tx: Db, after: number) => Promise<SliceEnd>][] = [];
  if (!("tasks" in select)) {
    freezers.push([lastMessage, (tx, after) => freezeMessages(tx, select, { redriveId, after, upTo: lastMessage, limit })]);
  }
  if (selectsTask(sql, select)) {
    freezers.push([
      lastTask,
      (tx, after) => freezeTasks(tx, selectsTask(tx, select) ?? tx`false`, { redriveId, after, upTo: lastTask, limit }),
    ]);
  }
  let items = 0;
  for (const [upTo, freeze] of freezers) {
    for (let after: number | null = 0; after !== null && after < upTo && items <= maxItems;) {
      const from: number = after;
      const slice = await withConflictRetry(() =>
        sql.begin(async (tx) => {
          const selecting = await tx`select from redrives where id = ${redriveId} and status = 'selecting' for share`;
          if (selecting.count === 0 || !await takeLease(tx, redriveLease(redriveId), freezer, freezingMs)) return null;
          const frozen = await freeze(tx, from);
          if (edit && frozen.firstItem !== null) {
            await editItems(tx, { redriveId, firstItem: frozen.firstItem, edit, checkEdited });
          }
          return frozen;
        })
      );
      if (!slice) return;
      items += slice.items;
      after = slice.last;
    }
  }
  if (items > maxItems) {
    await stopRedrive(sql, redriveId, { by: null, reason: `it has more than ${maxItems} items` });
    return;
  }
  await sql`
    update redrives set status = 'preview', items = (select count(*) from redrive_items where redrive_id = ${redriveId}),
      preview = (${describeItems(sql, redriveId)})
    where id = ${redriveId} and status = 'selecting'`;
}

/** Of the items from this one on. */
async function editItems(
  tx: Db,
  { redriveId, firstItem, edit: { remove, set }, checkEdited }: {
    redriveId: number;
    firstItem: number;
    edit: ParameterEdit;
    checkEdited: CheckEdited;
  },
): Promise<void> {
  const rows = await tx<EditedItem[]>`
    select redrive_items.id as "itemId", job_type as "jobType", stages.number as stage,
      (tasks.parameters - array(select json_array_elements_text(${JSON.stringify(remove)}::text::json)))
        || ${JSON.stringify(set)}::text::jsonb as parameters
    from redrive_items join tasks on tasks.id = task_id join stages on stages.id = tasks.stage_id join jobs on jobs.id = stages.job_id
    where redrive_id = ${redriveId} and redrive_items.id >= ${firstItem} and redrive_items.status = 'waiting'
    order by redrive_items.id`;
  const checked = rows.map((row) => ({ id: row.itemId, ...checkEdited(row) }));
  await tx`
    update redrive_items set parameters = checked.parameters, detail = problem,
      status = case when problem is null then 'waiting' else 'refused' end,
      reason = case when problem is not null then 'invalid-parameters' end
    from json_to_recordset(${JSON.stringify(checked)}::text::json) as checked(id bigint, parameters jsonb, problem text)
    where redrive_items.id = checked.id`;
}

/**
 * What an operator should know before starting it: items by verdict, task type, stage and status of their job; those refused, by
 * reason; and what would become of the others if it were started now.
 */
function describeItems(db: Db, redriveId: number): postgres.PendingQuery<postgres.Row[]> {
  return db`
    with item as materialized (
      select redrive_items.id, redrive_items.status, redrive_items.reason, redrive_items.job_id, redrive_items.stage_id,
        coalesce(poison_messages.verdict, 'none') as verdict, coalesce(stages.task_type, 'none') as task_type,
        coalesce(stages.number || ' ' || stages.name, 'none') as stage, coalesce(jobs.status, 'none') as job_status,
        jobs.ended_at is not null as job_has_ended, stages.status as stage_status, stages.number,
        min(stages.number) filter (where redrive_items.status = 'waiting') over (partition by redrive_items.job_id) as first_stage
      from redrive_items
      left join poison_messages on poison_messages.id = poison_id
      left join stages on stages.id = redrive_items.stage_id
      left join jobs on jobs.id = redrive_items.job_id
      where redrive_id = ${redriveId}
    ), prospect as (
      select *, case
        when status <> 'waiting' then 'refused'
        when job_has_ended and number > first_stage then 'refused-later-stage'
        when job_has_ended then 'opened-with-its-job'
        when job_status <> 'processing' or stage_status = 'reducing' then 'put-off'
        when stage_status in ('planning', 'open') then 'opened'
        else 'refused-stage-passed'
      end as fate
      from item
    )
    select jsonb_build_object(
      'by_verdict', (select coalesce(jsonb_object_agg(verdict, n), '{}') from (select verdict, count(*) as n from item group by 1) as c),
      'by_task_type', (
        select coalesce(jsonb_object_agg(task_type, n), '{}') from (select task_type, count(*) as n from item group by 1) as c),
      'by_stage', (select coalesce(jsonb_object_agg(stage, n), '{}') from (select stage, count(*) as n from item group by 1) as c),
      'by_job_status', (
        select coalesce(jsonb_object_agg(job_status, n), '{}') from (select job_status, count(*) as n from item group by 1) as c),
      'refused', (
        select coalesce(jsonb_object_agg(reason, n), '{}') from (
          select reason, count(*) as n from item where status = 'refused' group by 1) as c),
      'fates', (select coalesce(jsonb_object_agg(fate, n), '{}') from (select fate, count(*) as n from prospect group by 1) as c),
      'jobs_retried', (select count(distinct job_id) from prospect where fate = 'opened-with-its-job'),
      'stages_discarded', (
        select count(*) from stages join (select distinct job_id, first_stage from prospect where fate = 'opened-with-its-job') as job
          on job.job_id = stages.job_id where stages.number > first_stage and discarded_at is null)
    )`;
}

/** `started`: by this call. `conflict`: it isn't what the operator saw, or can't be started (any more). */
export async function startRedrive(
  sql: Sql,
  redriveId: number,
  { by, expectedItems }: { by: string; expectedItems: number },
): Promise<"started" | "running" | "conflict" | "unknown"> {
  const started = await sql`
    with started as (
      update redrives set status = 'running', started_by = ${by}, started_at = now()
      where id = ${redriveId} and status = 'preview' and items = ${expectedItems}
      returning id, items
    )
    insert into events (kind, details)
    select 'redrive-started', jsonb_build_object('redrive', id, 'by', ${by}::text, 'items', items) from started`;
  if (started.count === 1) return "started";
  const [redrive] = await sql<
    { status: RedriveStatus; items: number }[]
  >`select status, items from redrives where id = ${redriveId}`;
  if (!redrive) return "unknown";
  const hasStarted = redrive.status === "running" || redrive.status === "completed";
  return hasStarted && redrive.items === expectedItems ? "running" : "conflict";
}

/**
 * Opens no further item; those that are open go on, and their outcomes are still noted. `by` null: it stopped by itself. False if it
 * isn't, or no longer, in one of the statuses that it is stopped from.
 */
export async function stopRedrive(
  sql: Db,
  redriveId: number,
  { by, reason, from = ["selecting", "preview", "running"] }: {
    readonly by: string | null;
    readonly reason: string;
    readonly from?: readonly RedriveStatus[];
  },
): Promise<boolean> {
  const stopped = await sql`
    with stopped as (
      update redrives set status = 'stopped', stopped_by = ${by}, stop_reason = ${reason}, stopped_at = now(),
        ended_at = case when started_at is null then now() end
      where id = ${redriveId} and status in ${sql([...from])}
      returning id
    )
    insert into events (kind, details)
    select 'redrive-stopped', jsonb_build_object('redrive', id, 'by', ${by}::text, 'reason', ${reason}::text) from stopped`;
  return stopped.count === 1;
}

export interface ListedRedrive {
  readonly redrive_id: number;
  readonly status: RedriveStatus;
  readonly select: JsonObject;
  readonly edit: JsonObject | null;
  readonly rate_per_second: number | null;
  readonly canary: number;
  readonly max_failure_share: number;
  readonly items: number;
  readonly requested_by: string;
  readonly note: string | null;
  readonly started_by: string | null;
  readonly stopped_by: string | null;
  readonly stop_reason: string | null;
  readonly created_at: Date;
  readonly started_at: Date | null;
  readonly stopped_at: Date | null;
  /** Every outcome is known. */
  readonly ended_at: Date | null;
}

function listedRedrive(db: Db): postgres.PendingQuery<postgres.Row[]> {
  return db`id as redrive_id, status, selection as select, edit, rate_per_second, canary, max_failure_share, items, requested_by, note,
    started_by, stopped_by, stop_reason, created_at, started_at, stopped_at, ended_at`;
}

/** Newest first; `before` is the id of the last one of the page before. */
export async function listRedrives(
  db: Db,
  { status, limit, before }: { status?: RedriveStatus | undefined; limit: number; before?: number | undefined },
): Promise<readonly ListedRedrive[]> {
  return await db<ListedRedrive[]>`
    select ${listedRedrive(db)} from redrives
    where true ${status ? db`and status = ${status}` : db``} ${before === undefined ? db`` : db`and id < ${before}`}
    order by id desc limit ${limit}`;
}

export const itemStatuses = ["waiting", "opened", "succeeded", "failed-again", "cancelled", "skipped", "refused"] as const;
export type ItemStatus = typeof itemStatuses[number];

export interface RedriveDetails extends ListedRedrive {
  readonly preview: JsonObject | null;
  readonly progress: Readonly<Record<ItemStatus, number>>;
  /** Of those refused or skipped. */
  readonly reasons: Readonly<Record<string, number>>;
}

export async function findRedrive(db: Db, redriveId: number): Promise<RedriveDetails | null> {
  const [redrive] = await db<RedriveDetails[]>`
    with item as (
      select status, reason, count(*)::int as n from redrive_items where redrive_id = ${redriveId} group by status, reason
    )
    select ${listedRedrive(db)}, preview,
      (select coalesce(json_object_agg(status, n), '{}') from (select status, sum(n) as n from item group by status) as counted)
        as progress,
      (select coalesce(json_object_agg(reason, n), '{}') from (
        select reason, sum(n) as n from item where reason is not null group by reason) as counted) as reasons
    from redrives where id = ${redriveId}`;
  if (!redrive) return null;
  const none = Object.fromEntries(itemStatuses.map((status) => [status, 0])) as Record<ItemStatus, number>;
  return { ...redrive, progress: { ...none, ...redrive.progress } };
}

export interface ListedItem {
  readonly item_id: number;
  readonly kind: "task" | "job";
  readonly message_id: number | null;
  readonly job_id: string | null;
  readonly stage_id: number | null;
  readonly task_id: number | null;
  readonly attempt: number | null;
  readonly outcome: ItemStatus;
  readonly reason: string | null;
  readonly detail: string | null;
  readonly original_parameters: JsonObject | null;
  readonly edited_parameters: JsonObject | null;
  readonly opened_at: Date | null;
  readonly settled_at: Date | null;
}

/** In the order they were selected. */
export async function listItems(
  db: Db,
  { redriveId, status, limit, after }: {
    redriveId: number;
    status?: ItemStatus | undefined;
    limit: number;
    after?: number | undefined;
  },
): Promise<readonly ListedItem[]> {
  return await db<ListedItem[]>`
    select id as item_id, kind, poison_id as message_id, job_id, stage_id, task_id, attempt, status as outcome, reason, detail,
      original as original_parameters, parameters as edited_parameters, opened_at, settled_at
    from redrive_items
    where redrive_id = ${redriveId} ${status ? db`and status = ${status}` : db``} and id > ${after ?? 0}
    order by id limit ${limit}`;
}

import type postgres from "postgres";
import type { MessageSelection, PoisonFilter, RedriveSelection } from "../contracts/poison-selection.ts";
import type { Db } from "./database.ts";

type Condition = postgres.PendingQuery<postgres.Row[]>;

/** Keys as a set, by way of JSON: arrays as parameters would have the driver read the catalog first, at each connection. */
function keys(db: Db, ids: readonly number[]): Condition {
  return db`select value::bigint from json_array_elements_text(${JSON.stringify(ids)}::text::json)`;
}

/** What a selection says of rows of `poison_messages`, joined with those of `stages` and `jobs` that they name. */
export function selectsMessage(db: Db, selection: MessageSelection): Condition {
  if ("messages" in selection) return db`poison_messages.id in (${keys(db, selection.messages)})`;
  if ("group" in selection) return db`poison_messages.fingerprint = ${selection.group}`;
  if ("all" in selection) return db`true`;
  const { verdict, reason, transport, queue, code, hours } = selection.filter;
  return db`${selectsRow(db, selection.filter)}
    ${verdict === undefined ? db`` : db`and poison_messages.verdict = ${verdict}`}
    ${reason === undefined ? db`` : db`and poison_messages.reason = ${reason}`}
    ${transport === undefined ? db`` : db`and poison_messages.transport = ${transport}`}
    ${queue === undefined ? db`` : db`and poison_messages.queue = ${queue}`}
    ${code === undefined ? db`` : db`and poison_messages.error ->> 'code' = ${code}`}
    ${hours === undefined ? db`` : db`and poison_messages.first_seen_at > now() - ${hours} * interval '1 hour'`}`;
}

/** What a filter says of rows of `stages` joined with `jobs`. */
function selectsRow(db: Db, { job_id, job_type, task_type, stage }: PoisonFilter): Condition {
  return db`true
    ${job_id === undefined ? db`` : db`and jobs.id = ${job_id}`}
    ${job_type === undefined ? db`` : db`and job_type = ${job_type}`}
    ${task_type === undefined ? db`` : db`and stages.task_type = ${task_type}`}
    ${stage === undefined ? db`` : db`and stages.number = ${stage}`}`;
}

/** What a selection says of rows of `tasks`, joined with their `stages` and `jobs`. Null: it has only messages. */
export function selectsTask(db: Db, selection: RedriveSelection): Condition | null {
  if ("tasks" in selection) return db`tasks.id in (${keys(db, selection.tasks)})`;
  if ("messages" in selection || "group" in selection) return null;
  const hasNoRecord = db`tasks.status = 'failed' and stages.discarded_at is null and not exists (
    select from poison_messages
    where cardinality(task_ids) = 1 and task_ids[1] = tasks.id and coalesce(poison_messages.attempt = tasks.attempt, true))`;
  if ("all" in selection) return hasNoRecord;
  const { verdict, reason, transport, queue, code, hours } = selection.filter;
  if ([verdict, reason, transport, queue].some((condition) => condition !== undefined)) return null;
  return db`${hasNoRecord} and ${selectsRow(db, selection.filter)}
    ${code === undefined ? db`` : db`and tasks.error ->> 'code' = ${code}`}
    ${hours === undefined ? db`` : db`and tasks.ended_at > now() - ${hours} * interval '1 hour'`}`;
}

/** One slice of a selection: what of it lies between two ids, at most so many rows. */
export interface Slice {
  readonly redriveId: number;
  readonly after: number;
  readonly upTo: number;
  readonly limit: number;
}

/** What one slice came to; `last` is where the next one begins, null when there is nothing left. */
export interface SliceEnd {
  readonly items: number;
  /** The first item of it. */
  readonly firstItem: number | null;
  readonly last: number | null;
}

/**
 * Freezes a slice of the messages as items. What the rows say now decides what is refused at once; what is found to have moved
 * later is skipped then.
 */
export async function freezeMessages(db: Db, selection: MessageSelection, slice: Slice): Promise<SliceEnd> {
  const { redriveId, after, upTo, limit } = slice;
  const [row] = await db<SliceEnd[]>`
    with message as materialized (
      select poison_messages.*, jobs.ended_at as job_ended_at, jobs.id as known_job, jobs.run as current_job_run,
        stages.id as known_stage, stages.run as stage_run, stages.status as stage_status, stages.discarded_at
      from poison_messages
      left join jobs on jobs.id = poison_messages.job_id
      left join stages on stages.id = poison_messages.stage_id and stages.job_id = poison_messages.job_id
      where poison_messages.id > ${after} and poison_messages.id <= ${upTo} and ${selectsMessage(db, selection)}
      order by poison_messages.id limit ${limit}
    ), judged as (
      select message.id, message.kind, known_job, known_stage, tasks.id as task_id, tasks.attempt, tasks.reopened, case
        when message.status <> 'new' then message.status
        when message.verdict is null then 'not-judged'
        when message.kind is null then 'unreadable'
        when message.kind = 'tasks' and cardinality(message.task_ids) > 1 then 'several-tasks'
        when known_job is null or message.kind <> 'start-job' and known_stage is null or message.kind = 'tasks' and tasks.id is null
          then 'orphan'
        when discarded_at is not null then 'stage-discarded'
        when message.kind = 'tasks' then case
          when tasks.status = 'completed' then 'completed'
          when tasks.status = 'cancelled' then 'cancelled'
          when tasks.status <> 'failed' then 'open'
          when message.attempt is distinct from tasks.attempt then 'moved-on'
        end
        when job_ended_at is null then 'open'
        when message.kind = 'stage' and message.run <> stage_run or message.kind = 'start-job' and message.run <> current_job_run
          or message.kind = 'start-job' and exists (select from stages where stages.job_id = known_job and stages.discarded_at is null)
          then 'moved-on'
        when message.kind = 'stage' and stage_status = 'completed' then 'completed'
      end as reason
      from message left join tasks on cardinality(message.task_ids) = 1 and tasks.id = message.task_ids[1]
        and tasks.stage_id = message.stage_id
    ), ranked as ( -- of several messages about one piece of work, the newest is redriven
      select judged.*, row_number() over (
        partition by reason is null, kind = 'tasks', coalesce(task_id::text, known_job) order by judged.id desc) as place
      from judged
    ), inserted as (
      insert into redrive_items (redrive_id, kind, poison_id, job_id, stage_id, task_id, attempt, reopened, status, reason)
      select ${redriveId}, case when kind = 'tasks' or kind is null then 'task' else 'job' end, id, known_job, known_stage, task_id,
        attempt, reopened, case when refusal is null then 'waiting' else 'refused' end, refusal
      from ranked cross join lateral (select coalesce(reason, case
        when place > 1 or exists (
          select from redrive_items as known where known.redrive_id = ${redriveId} and known.status = 'waiting'
            and (known.task_id = ranked.task_id or known.kind = 'job' and ranked.kind <> 'tasks' and known.job_id = known_job))
          then 'duplicate' end) as refusal) as decided
      order by id
      returning id
    )
    select (select count(*)::int from inserted) as items, (select min(id) from inserted) as "firstItem",
      (select max(id) from message) as last`;
  return row ?? { items: 0, firstItem: null, last: null };
}

/** The same of failed tasks that no message speaks of, or of those that were named. */
export async function freezeTasks(
  db: Db,
  selected: postgres.PendingQuery<postgres.Row[]>,
  { redriveId, after, upTo, limit }: Slice,
): Promise<SliceEnd> {
  const [row] = await db<SliceEnd[]>`
    with task as materialized (
      select tasks.*, stages.job_id, stages.discarded_at from tasks join stages on stages.id = tasks.stage_id
      join jobs on jobs.id = stages.job_id
      where tasks.id > ${after} and tasks.id <= ${upTo} and ${selected}
      order by tasks.id limit ${limit}
    ), judged as (
      select task.id, task.job_id, task.stage_id, task.attempt, task.reopened, message.id as poison_id, case
        when discarded_at is not null then 'stage-discarded'
        when task.status = 'completed' then 'completed'
        when task.status = 'cancelled' then 'cancelled'
        when task.status <> 'failed' then 'open'
        when message.status = 'discarded' then 'discarded'
      end as reason
      from task left join lateral (
        select id, status from poison_messages
        where cardinality(task_ids) = 1 and task_ids[1] = task.id and attempt = task.attempt and status <> 'redriven'
        order by id desc limit 1
      ) as message on true
      where not exists (select from redrive_items where redrive_id = ${redriveId} and task_id = task.id and status = 'waiting')
    ), inserted as (
      insert into redrive_items (redrive_id, kind, poison_id, job_id, stage_id, task_id, attempt, reopened, status, reason)
      select ${redriveId}, 'task', poison_id, job_id, stage_id, id, attempt, reopened,
        case when reason is null then 'waiting' else 'refused' end, reason
      from judged order by id
      returning id
    )
    select (select count(*)::int from inserted) as items, (select min(id) from inserted) as "firstItem",
      (select max(id) from task) as last`;
  return row ?? { items: 0, firstItem: null, last: null };
}

import { type Db, type Sql, withConflictRetry } from "./database.ts";
import { retryJob } from "./retry-job.ts";

/** Times that an item is put off because its stage is being reduced; with growing pauses, about three minutes in all. */
export const maxTries = 10;
/** Until a job that is queued, stopping, or at work for this redrive is looked at again. */
const waitMs = 1_000;

/**
 * What became of the next item, or of all the next items of one job. `idle`: none is waiting that is due, the rate allows none yet,
 * or the redrive isn't running.
 */
export type Opening =
  | { readonly outcome: "idle" | "moved" | "put-off" }
  | { readonly outcome: "opened" | "closed"; readonly opened: number };

interface WaitingItem {
  readonly id: number;
  readonly kind: "task" | "job";
  readonly poisonId: number | null;
  readonly jobId: string | null;
  readonly stageId: number | null;
  readonly taskId: number | null;
  readonly attempt: number | null;
  readonly reopened: number | null;
  readonly tries: number;
}

interface Context {
  readonly redriveId: number;
  readonly by: string;
  readonly rate: number | null;
  /** Items that may be opened now. */
  readonly limit: number;
}

/** Rolls back: the rows aren't as they were read any more. */
class MovedError extends Error {}

/**
 * Opens the next item that waits and is due, in one transaction with everything that follows from it (protocol, rule 19): the task
 * in the stage of a running job; or, where the job has ended, one retry of the job with what is selected of it, at most `limit`
 * items. Two callers at once don't open an item twice: the redrive's row is held, and every guard is read under its lock.
 */
export async function openNext(sql: Sql, redriveId: number, limit: number): Promise<Opening> {
  return await withConflictRetry(() =>
    sql.begin(async (tx): Promise<Opening> => {
      // Held first: once it is stopped, nothing of it is opened any more.
      const [redrive] = await tx<{ by: string; rate: number | null }[]>`
        select coalesce(started_by, requested_by) as by, rate_per_second as rate from redrives
        where id = ${redriveId} and status = 'running' and coalesce(next_at <= now(), true) for no key update`;
      if (!redrive || limit < 1) return { outcome: "idle" };
      const [item] = await tx<WaitingItem[]>`
        select id, kind, poison_id as "poisonId", job_id as "jobId", stage_id as "stageId", task_id as "taskId", attempt, reopened, tries
        from redrive_items where redrive_id = ${redriveId} and status = 'waiting' and try_at <= now()
        order by try_at, id limit 1`;
      if (!item) return { outcome: "idle" };
      const { by, rate } = redrive;
      const context = { redriveId, by, rate, limit };
      // Read before its lock, as messages are locked before jobs everywhere; whatever depends on it reads it again.
      const [job] = await tx<{ ended: boolean; status: string }[]>`
        select ended_at is not null as ended, status from jobs where id = ${item.jobId}`;
      if (!job) return await close(tx, item, "refused", "orphan");
      if (job.ended) return await openWithJob(tx, context, item);
      if (job.status !== "processing") return await putOffJob(tx, context, item);
      return await openInStage(tx, context, item);
    })
  ).catch((error: unknown): Opening => {
    if (error instanceof MovedError) return { outcome: "moved" };
    throw error;
  });
}

async function openInStage(tx: Db, context: Context, item: WaitingItem): Promise<Opening> {
  if (item.kind === "job" || item.taskId === null || item.stageId === null) return await close(tx, item, "skipped", "moved-on");
  const poison = await lockMessage(tx, item.poisonId);
  if (poison !== null && poison !== "new") return await close(tx, item, "skipped", poison);
  const [job] = await tx<{ run: number }[]>`
    select run from jobs where id = ${item.jobId} and status = 'processing' for no key update`;
  if (!job) throw new MovedError();
  const [task] = await tx`
    select from tasks where id = ${item.taskId} and status = 'failed' and attempt = ${item.attempt} and reopened = ${item.reopened}
    for update`;
  if (!task) return await close(tx, item, "skipped", "moved-on");
  const [stage] = await tx<{ status: string; discarded: boolean }[]>`
    select status, discarded_at is not null as discarded from stages where id = ${item.stageId} for no key update`;
  if (!stage) return await close(tx, item, "refused", "orphan");
  if (stage.discarded) return await close(tx, item, "refused", "stage-discarded");
  if (stage.status === "reducing") return await putOffStage(tx, context, item);
  if (stage.status !== "planning" && stage.status !== "open") {
    // A job that this redrive itself has retried is waited for: the rest of its items go with its next run.
    const own = await tx`
      select from redrive_items where redrive_id = ${context.redriveId} and job_id = ${item.jobId} and job_run = ${job.run} limit 1`;
    return own.count > 0 ? await putOffJob(tx, context, item) : await close(tx, item, "refused", "stage-passed");
  }
  await closeOlderItems(tx, item.id);
  await tx`
    with original as (
      select parameters from tasks where id = ${item.taskId}
    ), item as (
      update redrive_items set status = 'opened', opened_at = now(), job_run = ${job.run},
        original = case when redrive_items.parameters is not null then original.parameters end
      from original where id = ${item.id}
      returning redrive_items.id, redrive_items.parameters
    ), moved as (
      update tasks set status = 'pending', failures = 0, interruptions = 0, deferrals = 0, resends = 0, poisonings = 0,
        not_before = null, ended_at = null, reopened = reopened + 1, retry_run = null, outbox_id = nextval('outbox_id_seq'),
        parameters = coalesce(item.parameters, tasks.parameters)
      from item where tasks.id = ${item.taskId}
      returning tasks.id, stage_id, index, outbox_id
    ), counted as (
      update stages set failed = failed - 1 from moved where stages.id = moved.stage_id
    ), noted as (
      insert into events (job_id, stage_id, task_id, kind, details)
      select ${item.jobId}, stage_id, id, 'task-redriven', jsonb_build_object('redrive', ${context.redriveId}::bigint, 'by', ${context.by}::text)
      from moved
    )
    insert into outbox (id, batch_id, job_id, stage_id, transport, queue, kind, run, task_ids)
    select outbox_id, job_id || '-s' || number || '-r' || stages.run || '-t' || index || '-d' || outbox_id, job_id, stages.id,
      processing_path, stages.queue, 'tasks', stages.run, array[moved.id]
    from moved join stages on stages.id = stage_id join jobs on jobs.id = job_id
    on conflict (batch_id) do nothing`;
  await markRedriven(tx, context, tx`select poison_id from redrive_items where id = ${item.id}`);
  await spend(tx, context, 1);
  return { outcome: "opened", opened: 1 };
}

/**
 * An ended job: one retry, with the whole selection of it. It starts from the earliest stage that the selection names; what is
 * selected of later stages is refused, as these are discarded.
 */
async function openWithJob(tx: Db, context: Context, { jobId }: WaitingItem): Promise<Opening> {
  const chosen = tx`(
    select * from redrive_items where redrive_id = ${context.redriveId} and job_id = ${jobId} and status = 'waiting'
    order by id limit ${context.limit})`;
  await tx`
    select from poison_messages join ${chosen} as item on item.poison_id = poison_messages.id
    order by poison_messages.id for update of poison_messages`;
  const [job] = await tx<{ run: number }[]>`
    select run from jobs where id = ${jobId} and ended_at is not null for no key update`;
  if (!job) throw new MovedError();
  await tx`
    select from tasks join ${chosen} as item on item.task_id = tasks.id order by tasks.id for update of tasks`;
  const closed = await tx`
    with judged as (
      select item.id, case
        when poison_messages.status <> 'new' then poison_messages.status
        when item.kind = 'task' and (tasks.status is distinct from 'failed' or tasks.attempt <> item.attempt
          or tasks.reopened <> item.reopened) then 'moved-on'
        when item.stage_id is not null and stages.id is null then 'orphan'
        when stages.discarded_at is not null then 'stage-discarded'
        when item.kind = 'job' and (stages.status = 'completed'
          or item.stage_id is null and exists (
            select from stages as first where first.job_id = ${jobId} and first.discarded_at is null)) then 'moved-on'
      end as reason
      from ${chosen} as item left join poison_messages on poison_messages.id = item.poison_id
      left join tasks on tasks.id = item.task_id left join stages on stages.id = item.stage_id
    )
    update redrive_items set reason = judged.reason, settled_at = now(),
      status = case when judged.reason in ('orphan', 'stage-discarded') then 'refused' else 'skipped' end
    from judged where redrive_items.id = judged.id and judged.reason is not null`;
  // The rest is good. The slice is the same, but for what was closed: those behind it wait for the next one.
  const limit = context.limit - closed.count;
  const good = tx`(
    select item.*, stages.number from (
      select * from redrive_items where redrive_id = ${context.redriveId} and job_id = ${jobId} and status = 'waiting'
      order by id limit ${limit}
    ) as item left join stages on stages.id = item.stage_id)`;
  const [first] = await tx<{ items: number; resumeFrom: number | null }[]>`
    select count(*)::int as items, min(number) as "resumeFrom" from ${good} as item`;
  if (!first || first.items === 0) return { outcome: "closed", opened: 0 };
  const { resumeFrom } = first;
  const later = await tx`
    update redrive_items set status = 'refused', reason = 'later-stage', settled_at = now()
    from ${good} as item where redrive_items.id = item.id and item.number > ${resumeFrom}`;
  const run = await retryJob(tx, { jobId: jobId ?? "", run: job.run, resumeFrom, selected: true, by: context.by });
  if (run === null) throw new MovedError();
  await tx`
    update redrive_items set status = 'failed-again', settled_at = now()
    where status = 'opened' and task_id in (
      select task_id from redrive_items
      where redrive_id = ${context.redriveId} and job_id = ${jobId} and status = 'waiting' order by id limit ${
    first.items - later.count
  })`;
  const [opened] = await tx<{ n: number }[]>`
    with chosen as materialized (
      select item.id, item.task_id, item.parameters, tasks.parameters as original, row_number() over (order by item.id) - 1 as place
      from (
        select * from redrive_items where redrive_id = ${context.redriveId} and job_id = ${jobId} and status = 'waiting'
        order by id limit ${first.items - later.count}
      ) as item left join tasks on tasks.id = item.task_id
    ), item as (
      update redrive_items set status = 'opened', opened_at = now(), job_run = ${run},
        original = case when chosen.parameters is not null then chosen.original end
      from chosen where redrive_items.id = chosen.id
    ), marked as ( -- as many of them are due at a time as the rate allows in a second
      update tasks set retry_run = ${run}, parameters = coalesce(chosen.parameters, tasks.parameters),
        not_before = ${
    context.rate === null
      ? tx`null`
      : tx`now() + greatest(1, 1 / ${context.rate}::float8) * interval '1 s' * floor(place / greatest(1, ${context.rate}::float8))`
  }
      from chosen where tasks.id = chosen.task_id
    )
    select count(*)::int as n from chosen`;
  const n = opened?.n ?? 0;
  await markRedriven(
    tx,
    context,
    tx`select poison_id from redrive_items
      where redrive_id = ${context.redriveId} and job_id = ${jobId} and job_run = ${run} and status = 'opened'`,
  );
  await spend(tx, context, n);
  return { outcome: "opened", opened: n };
}

/** The message's status, held until the end of the transaction; null if there is none. */
async function lockMessage(tx: Db, poisonId: number | null): Promise<string | null> {
  if (poisonId === null) return null;
  const [message] = await tx<{ status: string }[]>`select status from poison_messages where id = ${poisonId} for update`;
  return message?.status ?? null;
}

/** Its task failed again since another redrive opened it, whose outcome that is: a task is open in one redrive at a time. */
async function closeOlderItems(tx: Db, itemId: number): Promise<void> {
  await tx`
    update redrive_items set status = 'failed-again', settled_at = now()
    where status = 'opened' and task_id = (select task_id from redrive_items where id = ${itemId})`;
}

async function markRedriven(tx: Db, { by }: Context, poisonIds: ReturnType<Db>): Promise<void> {
  await tx`
    update poison_messages set status = 'redriven', status_by = ${by}, status_at = now()
    where status = 'new' and id in (${poisonIds})`;
}

/** A second's worth may be opened at once, so that pauses between looks cost nothing. */
async function spend(tx: Db, { redriveId, rate }: Context, n: number): Promise<void> {
  if (rate === null) return;
  await tx`
    update redrives set next_at = greatest(next_at, now() - least(interval '1 s', now() - started_at))
      + ${n}::int / ${rate}::float8 * interval '1 s'
    where id = ${redriveId}`;
}

async function close(tx: Db, { id }: WaitingItem, status: "skipped" | "refused", reason: string): Promise<Opening> {
  await tx`update redrive_items set status = ${status}, reason = ${reason}, settled_at = now() where id = ${id}`;
  return { outcome: "closed", opened: 0 };
}

/** Everything of this job waits for it. */
async function putOffJob(tx: Db, { redriveId }: Context, { jobId }: WaitingItem): Promise<Opening> {
  await tx`
    update redrive_items set try_at = now() + ${waitMs} * interval '1 ms'
    where redrive_id = ${redriveId} and job_id = ${jobId} and status = 'waiting'`;
  return { outcome: "put-off" };
}

/** Everything of this stage waits for its reducer, a bounded number of times. */
async function putOffStage(tx: Db, { redriveId }: Context, { jobId, stageId }: WaitingItem): Promise<Opening> {
  await tx`
    update redrive_items set tries = tries + 1, try_at = now() + least(30, 0.5 * 2 ^ tries) * interval '1 s',
      status = case when tries + 1 >= ${maxTries} then 'refused' else status end,
      reason = case when tries + 1 >= ${maxTries} then 'stage-reducing' end,
      settled_at = case when tries + 1 >= ${maxTries} then now() end
    where redrive_id = ${redriveId} and job_id = ${jobId} and stage_id = ${stageId} and status = 'waiting'`;
  return { outcome: "put-off" };
}

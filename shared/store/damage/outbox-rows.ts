import type { TransportName } from "../../transports.ts";
import type { Db } from "../database.ts";
import { hintAgeMs, isJobWaiting, isStageWaiting } from "../sweep.ts";
import { type FoundRows, foundRows, type Place } from "./found.ts";

/** Batches still to be sent none of whose tasks is there. */
export async function findOrphanBatches(
  db: Db,
  limit: number,
): Promise<FoundRows<Place & { outboxId: number; batchId: string; total: number }>> {
  return foundRows(
    await db<(Place & { outboxId: number; batchId: string; total: number })[]>`
    select id as "outboxId", batch_id as "batchId", job_id as "jobId", stage_id as "stageId", count(*) over ()::int as total
    from outbox
    where status = 'pending_queue' and kind = 'tasks' and not exists (
      select from unnest(task_ids) as named(id) join tasks on tasks.id = named.id and tasks.stage_id = outbox.stage_id)
    order by id limit ${limit}`,
  );
}

export interface UnsentBatch {
  readonly outboxId: number;
  readonly batchId: string;
  readonly jobId: string;
  readonly stageId: number | null;
  readonly transport: TransportName;
  readonly queue: string;
  readonly kind: "start-job" | "stage" | "tasks";
  readonly sends: number;
  readonly lastError: string | null;
  /** Beyond any lease of a sender. */
  readonly isLockedTooLong: boolean;
  readonly total: number;
}

/** How far in the future no sender's lock ends. */
const longestLockMs = 60_000;

/**
 * Batches of live jobs that have been due for so long, in queues to which nothing was sent since. Batches of tasks wait as long as the
 * send window is full, so they count only where nothing of their queue is in the broker. Whatever is locked for longer than a sender
 * may is found in any queue.
 */
export async function findUnsentBatches(
  db: Db,
  { lateMs, limit }: { readonly lateMs: number; readonly limit: number },
): Promise<FoundRows<UnsentBatch>> {
  return foundRows(
    await db<UnsentBatch[]>`
    with waiting as materialized (
      select outbox.*, coalesce(locked_until > now() + ${longestLockMs} * interval '1 ms', false) as is_locked_too_long
      from outbox join jobs on jobs.id = outbox.job_id left join stages on stages.id = outbox.stage_id
      where outbox.status = 'pending_queue'
        and case kind when 'start-job' then jobs.status = 'queued' and outbox.run = jobs.run
          when 'stage' then jobs.status = 'processing' and stages.status in ('planning', 'reducing') and outbox.run = stages.run
          else jobs.status = 'processing' and stages.status in ('planning', 'open') and outbox.run = stages.run end
        and (greatest(outbox.not_before, outbox.created_at) < now() - ${lateMs} * interval '1 ms'
          or locked_until > now() + ${longestLockMs} * interval '1 ms')
    ), busy as materialized (
      select distinct transport, queue from outbox where sent_at > now() - ${lateMs} * interval '1 ms'
      union
      select processing_path, stages.queue from stages join jobs on jobs.id = job_id
      cross join lateral (select planned - completed - failed - cancelled as open_tasks) as counters
      where stages.status in ('planning', 'open') and jobs.status = 'processing' and open_tasks > (
        select coalesce(sum(cardinality(task_ids)), 0) from outbox
        where stage_id = stages.id and kind = 'tasks' and outbox.status = 'pending_queue')
    )
    select id as "outboxId", batch_id as "batchId", job_id as "jobId", stage_id as "stageId", waiting.transport, waiting.queue, kind,
      sends, last_error as "lastError", is_locked_too_long as "isLockedTooLong", count(*) over ()::int as total
    from waiting left join (select transport, queue, true as is_busy from busy) as busy using (transport, queue)
    where is_locked_too_long or is_busy is null order by id limit ${limit}`,
  );
}

export interface LostHints extends Place {
  readonly tasks: number;
  readonly total: number;
}

/** Per stage: pending, due tasks whose hint was sent so long ago that the sweep, had it found the queue short, would have hinted again. */
export async function countOldHints(
  db: Db,
  { transport, queue, lateMs, limit }: {
    readonly transport: TransportName;
    readonly queue: string;
    readonly lateMs: number;
    readonly limit: number;
  },
): Promise<FoundRows<LostHints>> {
  return foundRows(
    await db<LostHints[]>`
    select stages.id as "stageId", stages.job_id as "jobId", count(*)::int as tasks, count(*) over ()::int as total
    from stages join jobs on jobs.id = stages.job_id join tasks on tasks.stage_id = stages.id
    join outbox on outbox.id = tasks.outbox_id
    where stages.status in ('planning', 'open') and jobs.status = 'processing' and stages.queue = ${queue}
      and processing_path = ${transport} and tasks.status = 'pending' and coalesce(tasks.not_before <= now(), true)
      and outbox.status = 'queued'
      and sent_at < now() - (${hintAgeMs} * 2 ^ least(resends, 6) + ${lateMs}::float) * interval '1 ms'
    group by stages.id order by stages.id limit ${limit}`,
  );
}

/** The same for stages that wait to be planned or reduced, and for queued jobs: oldest hints first. */
export async function findOldStageHints(
  db: Db,
  { transport, lateMs, limit }: { readonly transport: TransportName; readonly lateMs: number; readonly limit: number },
): Promise<FoundRows<Place & { total: number }>> {
  return foundRows(
    await db<(Place & { total: number })[]>`
    select stages.id as "stageId", job_id as "jobId", count(*) over ()::int as total from stages join jobs on jobs.id = job_id
    where ${isStageWaiting(db, transport)}
      and hinted_at < now() - (${hintAgeMs} * 2 ^ least(sends - 1, 6) + ${lateMs}::float) * interval '1 ms'
    order by hinted_at limit ${limit}`,
  );
}

export async function findOldStartHints(
  db: Db,
  { transport, lateMs, limit }: { readonly transport: TransportName; readonly lateMs: number; readonly limit: number },
): Promise<FoundRows<{ jobId: string; total: number }>> {
  return foundRows(
    await db<{ jobId: string; total: number }[]>`
    select id as "jobId", count(*) over ()::int as total from jobs
    where ${isJobWaiting(db, transport)}
      and updated_at < now() - (${hintAgeMs} * 2 ^ least(start_sends - 1, 6) + ${lateMs}::float) * interval '1 ms'
    order by updated_at limit ${limit}`,
  );
}

/** Per queue of the outbox: tasks that ended, in stages that are alive or ended within a minute: what two readings may differ by. */
export async function readEndedTasks(db: Db, transport: TransportName): Promise<ReadonlyMap<string, number>> {
  const rows = await db<{ queue: string; ended: number }[]>`
    select queue, sum(completed + failed + cancelled)::float as ended from stages join jobs on jobs.id = job_id
    where processing_path = ${transport}
      and (stages.status in ('planning', 'open', 'reducing') or stages.ended_at > now() - interval '1 minute')
    group by queue`;
  return new Map(rows.map(({ queue, ended }) => [queue, ended]));
}

/**
 * The fewest messages that a queue ought to hold by a full count of its open tasks and their hints, wherever counters may be wrong: what
 * runs, and what waits for a hint that was sent.
 */
export async function countSentMessages(db: Db, transport: TransportName, queue: string): Promise<number> {
  const [row] = await db<{ messages: number }[]>`
    select coalesce(sum(ceil(sent::float / tasks_per_message)), 0)::int as messages from (
      select stages.id, tasks_per_message, count(*) as sent
      from stages join jobs on jobs.id = stages.job_id join tasks on tasks.stage_id = stages.id
      where stages.status in ('planning', 'open') and jobs.status = 'processing' and stages.queue = ${queue}
        and processing_path = ${transport}
        and (tasks.status = 'processing' or tasks.status = 'pending' and exists (
          select from outbox where outbox.id = tasks.outbox_id and outbox.status = 'queued'))
      group by stages.id
    ) as counted`;
  return row?.messages ?? 0;
}

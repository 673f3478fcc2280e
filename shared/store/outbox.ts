import type postgres from "postgres";
import type { TransportName } from "../transports.ts";
import { type Db, withConflictRetry } from "./database.ts";

/** One row of the outbox, locked by a sender: at most 100 messages that go to one queue in one sending. */
export interface Batch {
  readonly id: number;
  /** `{job_id}-s{stage}-r{run}-b{start index}` and the like; with `sends` it names the sending. */
  readonly batchId: string;
  readonly jobId: string;
  readonly correlationId: string;
  readonly stageId: number | null;
  readonly transport: TransportName;
  /** jobs, stages, tasks, or a stage's own queue. */
  readonly queue: string;
  readonly kind: "start-job" | "stage" | "tasks";
  readonly run: number;
  readonly taskIds: readonly number[];
  readonly tasksPerMessage: number;
  /** 1 on the first sending. */
  readonly sends: number;
}

/** How long a sender may take before another one sends its batch again. */
const sendLeaseMs = 5_000;
/** The same for the one hint that is sent right after the commit that inserted it: then the relay takes it up. */
export const firstSendLeaseMs = 2_000;

/** A Batch as JSON, of a row of `outbox` joined with its row of `jobs`. */
export function batchJson(db: Db): postgres.PendingQuery<postgres.Row[]> {
  return db`json_build_object('id', outbox.id, 'batchId', batch_id, 'jobId', jobs.id, 'correlationId', correlation_id,
    'stageId', outbox.stage_id, 'transport', transport, 'queue', outbox.queue, 'kind', kind, 'run', outbox.run,
    'taskIds', task_ids, 'tasksPerMessage', outbox.tasks_per_message, 'sends', sends)`;
}

/**
 * Locks due start-job and stage hints of a transport for this sender, oldest first. A relay claims only when it is sending
 * nothing, so what it still holds is from a claim or a mark whose answer was lost, and is locked anew.
 */
export async function claimHintBatches(
  db: Db,
  sender: string,
  transport: TransportName,
  limit: number,
): Promise<readonly Batch[]> {
  return await lockBatches(
    db,
    sender,
    db`
    chosen as (
      select id from outbox
      where transport = ${transport} and kind <> 'tasks' and ${isUnsent(db, sender)}
      order by not_before limit ${limit} for update skip locked
    )`,
  );
}

/**
 * Locks due batches of tasks of a transport for this sender, as many as the send window of their queue has room for: at most
 * `window` open tasks of a queue are in the broker at a time. Jobs take turns, batch by batch.
 */
export async function claimTaskBatches(
  db: Db,
  sender: string,
  transport: TransportName,
  { window, limit }: { window: number; limit: number },
): Promise<readonly Batch[]> {
  return await lockBatches(
    db,
    sender,
    db`
    queue_room as (
      select queue, ${window} - sum(in_flight) as room from (${inFlight(db, transport)}) as counted group by queue
    ), candidate as (
      select batch.id, batch.queue, batch.tasks, urgent, row_number() over (partition by job_id order by batch.not_before, batch.id) as turn
      from stages join jobs on jobs.id = job_id
      cross join lateral (
        select id, outbox.queue, not_before, urgent, cardinality(task_ids) as tasks from outbox
        where stage_id = stages.id and kind = 'tasks' and ${isUnsent(db, sender)}
        order by not_before limit ${limit}
      ) as batch
      where stages.status in ('planning', 'open') and jobs.status = 'processing' and processing_path = ${transport}
    ), fitting as ( -- the batch that overlaps the edge of the window still goes, or a batch larger than it never would
      select id, turn from (
        select id, queue, turn, tasks, urgent, sum(tasks) over (partition by queue order by turn, id) as total from candidate
      ) as running join queue_room using (queue)
      where urgent or total - tasks < room order by turn, id limit ${limit}
    ), chosen as (
      select outbox.id from outbox where id in (select id from fitting) and ${isUnsent(db, sender)}
      order by id for update skip locked
    )`,
  );
}

/** Per stage that is alive: its open tasks that were sent (`in_flight`), and the fewest messages that these are (`messages`). */
export function inFlight(db: Db, transport: TransportName): postgres.PendingQuery<postgres.Row[]> {
  return db`
    select stages.id as stage_id, stages.queue, open_tasks - unsent as in_flight,
      ceil((open_tasks - unsent)::float / tasks_per_message) as messages
    from stages join jobs on jobs.id = job_id
    cross join lateral (select planned - completed - failed - cancelled as open_tasks) as counters
    cross join lateral (
      select least(coalesce(sum(cardinality(task_ids)), 0), open_tasks) as unsent from outbox
      where stage_id = stages.id and kind = 'tasks' and outbox.status = 'pending_queue'
    ) as waiting
    where stages.status in ('planning', 'open') and jobs.status = 'processing' and processing_path = ${transport}`;
}

function isUnsent(db: Db, sender: string): postgres.PendingQuery<postgres.Row[]> {
  return db`outbox.status = 'pending_queue' and not_before <= now()
    and (locked_until is null or locked_until < now() or locked_by = ${sender})`;
}

async function lockBatches(db: Db, sender: string, chosen: postgres.PendingQuery<postgres.Row[]>): Promise<readonly Batch[]> {
  const rows = await withConflictRetry(() =>
    db<{ batch: Batch }[]>`
    with ${chosen}, locked as (
      update outbox set locked_by = ${sender}, locked_until = now() + ${sendLeaseMs} * interval '1 ms', sends = sends + 1
      from chosen where outbox.id = chosen.id
      returning outbox.*
    )
    select ${batchJson(db)} as batch from locked as outbox join jobs on jobs.id = outbox.job_id order by outbox.id`
  );
  return rows.map((row) => row.batch);
}

/** Marks batches as sent that this sender still holds. A batch that is marked twice stays as it was. */
export async function markSent(db: Db, sender: string, ids: readonly number[]): Promise<void> {
  await withConflictRetry(() =>
    db`
    update outbox set status = 'queued', sent_at = now(), locked_by = null, locked_until = null, last_error = null
    from (select id from outbox where id in (${keys(db, ids)}) order by id for update) as held
    where outbox.id = held.id and locked_by = ${sender} and status = 'pending_queue'`
  );
}

/** Gives batches back that could not be sent; each backs off by itself, up to 30 s. */
export async function markUnsent(db: Db, sender: string, ids: readonly number[], error: string): Promise<void> {
  await withConflictRetry(() =>
    db`
    update outbox set locked_by = null, locked_until = null, failures = failures + 1, last_error = ${error},
      not_before = now() + least(30, 0.2 * 2 ^ least(failures, 10)) * (0.5 + random()) * interval '1 s'
    from (select id from outbox where id in (${keys(db, ids)}) order by id for update) as held
    where outbox.id = held.id and locked_by = ${sender} and status = 'pending_queue'`
  );
}

/** Keys as a set, by way of JSON: arrays as parameters would have the driver read the catalog first, at each connection. */
function keys(db: Db, ids: readonly number[]): postgres.PendingQuery<postgres.Row[]> {
  return db`select value::bigint from json_array_elements_text(${JSON.stringify(ids)}::text::json)`;
}

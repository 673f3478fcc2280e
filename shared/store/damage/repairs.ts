import { type Db, type Sql, withConflictRetry } from "../database.ts";
import type { Batch } from "../outbox.ts";
import { openBarrier } from "../stages.ts";

/**
 * Sets the counters of a stage to a full count, then evaluates its barrier. Under the lock of the stage's row, which whoever ends a
 * task takes before it commits: what the count doesn't see is added to it later. Null, and nothing changed, where rows are missing (a
 * barrier that opens without them would pass over work that is lost), or where the stage is past its barrier and something is open.
 */
export async function recountStage(sql: Sql, sender: string, stageId: number): Promise<readonly Batch[] | null> {
  return await withConflictRetry(() =>
    sql.begin(async (tx) => {
      await tx`select from stages where id = ${stageId} for no key update`;
      // A statement of its own: its snapshot begins after the wait for the lock.
      const recounted = await tx`
        update stages set planned = counted.total, next_index = counted.total, completed = counted.completed, failed = counted.failed,
          cancelled = counted.cancelled
        from (
          select count(*)::int as total, coalesce(max(index) + 1, 0) as last, count(*) filter (where status = 'completed')::int as completed,
            count(*) filter (where status = 'failed')::int as failed, count(*) filter (where status = 'cancelled')::int as cancelled
          from tasks where stage_id = ${stageId}
        ) as counted
        where stages.id = ${stageId} and last = total and not (total < planned and total < next_index)
          and (status <> 'reducing' or total = counted.completed + counted.failed + counted.cancelled)`;
      return recounted.count === 1 ? await openBarrier(tx, sender, stageId) : null;
    })
  );
}

/** Hints pending tasks of live stages that no row of the outbox names, one task a message. Returns the tasks that it hinted. */
export async function hintUnhintedTasks(db: Db, taskIds: readonly number[]): Promise<readonly number[]> {
  const rows = await withConflictRetry(() =>
    db<{ id: number }[]>`
    with held as (
      select tasks.id, nextval('outbox_id_seq') as new_outbox_id
      from tasks join stages on stages.id = tasks.stage_id join jobs on jobs.id = stages.job_id
      where tasks.id in (select value::bigint from json_array_elements_text(${JSON.stringify(taskIds)}::text::json))
        and tasks.status = 'pending' and stages.status in ('planning', 'open') and jobs.status = 'processing'
        and not exists (select from outbox where outbox.id = tasks.outbox_id and tasks.id = any (task_ids))
      order by tasks.id for update of tasks
    ), moved as (
      update tasks set outbox_id = new_outbox_id from held where tasks.id = held.id
      returning tasks.id, stage_id, index, not_before, outbox_id
    ), hint as (
      insert into outbox (id, batch_id, job_id, stage_id, transport, queue, kind, run, task_ids, urgent, not_before)
      select outbox_id, job_id || '-s' || number || '-r' || stages.run || '-t' || index || '-m' || outbox_id, job_id, stages.id,
        processing_path, stages.queue, 'tasks', stages.run, array[moved.id], true, greatest(now(), moved.not_before)
      from moved join stages on stages.id = stage_id join jobs on jobs.id = job_id
    )
    select id from moved`
  );
  return rows.map(({ id }) => id);
}

/** Ends stages that are alive in jobs that have ended. Returns their ids. */
export async function cancelStrayStages(db: Db, stageIds: readonly number[]): Promise<readonly number[]> {
  const rows = await withConflictRetry(() =>
    db<{ id: number }[]>`
    update stages set status = 'cancelled', owner = null, lease_until = null, ended_at = now()
    from jobs
    where stages.id in (select value::bigint from json_array_elements_text(${JSON.stringify(stageIds)}::text::json))
      and stages.status in ('planning', 'open', 'reducing') and discarded_at is null and jobs.id = job_id and jobs.ended_at is not null
    returning stages.id`
  );
  return rows.map(({ id }) => id);
}

/** Deletes batches that wait to be sent and none of whose tasks is there. Returns their ids. */
export async function deleteOrphanBatches(db: Db, outboxIds: readonly number[]): Promise<readonly number[]> {
  const rows = await db<{ id: number }[]>`
    delete from outbox
    where id in (select value::bigint from json_array_elements_text(${JSON.stringify(outboxIds)}::text::json))
      and status = 'pending_queue' and kind = 'tasks' and not exists (
        select from unnest(task_ids) as named(id) join tasks on tasks.id = named.id and tasks.stage_id = outbox.stage_id)
    returning id`;
  return rows.map(({ id }) => id);
}

/** Unlocks batches that are locked for longer than any sender may. Returns their ids. */
export async function unlockBatches(db: Db, outboxIds: readonly number[]): Promise<readonly number[]> {
  const rows = await db<{ id: number }[]>`
    update outbox set locked_by = null, locked_until = null
    where id in (select value::bigint from json_array_elements_text(${JSON.stringify(outboxIds)}::text::json))
      and status = 'pending_queue' and locked_until > now() + interval '1 minute'
    returning id`;
  return rows.map(({ id }) => id);
}

import type { Db } from "./database.ts";

/** One thing that should never be: which of the design's invariants (section 14), and where. */
export interface Violation {
  readonly invariant: number;
  readonly what: string;
  readonly subject: string;
}

/**
 * Checks, in one snapshot, what must hold of the rows at any moment (design, section 14, 1 to 4 and 6; 8: redrives).
 * Returns what doesn't.
 * Liveness (7) is the caller's to see: `findUnendedJobs` once everything runs again.
 */
export async function findViolations(db: Db): Promise<readonly Violation[]> {
  return await db<Violation[]>`
    with counted as (
      select stages.id, count(tasks.id) as total,
        count(*) filter (where tasks.status in ('pending', 'processing')) as open_tasks,
        count(*) filter (where tasks.status = 'completed') as completed,
        count(*) filter (where tasks.status = 'failed') as failed,
        count(*) filter (where tasks.status = 'cancelled') as cancelled
      from stages left join tasks on tasks.stage_id = stages.id group by stages.id
    ), found as (
      select 1 as invariant, 'the counters of the stage differ from a full count' as what, 'stage ' || stages.id as subject
      from stages join counted using (id)
      where planned <> total or stages.completed <> counted.completed or stages.failed <> counted.failed
        or stages.cancelled <> counted.cancelled or next_index <> planned
      union all
      select 1, 'the indexes of the stage have gaps', 'stage ' || stage_id
      from tasks group by stage_id having max(index) + 1 <> count(*)
      union all
      select 2, 'an ended job has an open task', 'job ' || jobs.id
      from jobs join stages on job_id = jobs.id join counted on counted.id = stages.id
      where jobs.ended_at is not null and open_tasks > 0
      union all
      select 2, 'an ended job has an open stage', 'stage ' || stages.id
      from jobs join stages on job_id = jobs.id
      where jobs.ended_at is not null and stages.status in ('planning', 'open', 'reducing') and discarded_at is null
      union all
      select 2, 'the job ended more than once in a run', 'job ' || jobs.id
      from jobs join events on job_id = jobs.id and kind = 'job-ended'
      group by jobs.id having count(*) > jobs.run
      union all
      select 2, 'a job in its run did not end once in each run before', 'job ' || jobs.id
      from jobs left join events on job_id = jobs.id and kind = 'job-ended'
      where jobs.run > 1 group by jobs.id having count(events.id) <> jobs.run - (jobs.ended_at is null)::int
      union all
      select 2, 'a queued job has an open stage', 'stage ' || stages.id
      from jobs join stages on job_id = jobs.id
      where jobs.status = 'queued' and stages.status in ('planning', 'open', 'reducing') and discarded_at is null
      union all
      select 2, 'a discarded stage is open', 'stage ' || id
      from stages where discarded_at is not null and status in ('planning', 'open', 'reducing')
      union all
      select 2, 'a task waits for a run that its job has not reached', 'task ' || tasks.id
      from tasks join stages on stages.id = stage_id join jobs on jobs.id = job_id where retry_run > jobs.run
      union all
      select 2, 'the job completed although a stage did not', 'stage ' || stages.id
      from jobs join stages on job_id = jobs.id
      where jobs.status in ('completed', 'completed_with_errors') and discarded_at is null and stages.status <> 'completed'
      union all
      select 2, 'the job completed without errors although a task failed', 'job ' || jobs.id
      from jobs join stages on job_id = jobs.id
      where jobs.status = 'completed' and discarded_at is null and stages.failed > 0
      union all
      select 3, 'a completed task has no result of its last attempt', 'task ' || id
      from tasks where status = 'completed' and (result_attempt is distinct from attempt or result is null and result_ref is null)
      union all
      select 3, 'a task that has not completed has a result', 'task ' || id
      from tasks where status <> 'completed' and (result is not null or result_ref is not null)
      union all
      select 4, 'an open task is neither processing, nor unsent, nor sent', 'task ' || tasks.id
      from tasks left join outbox on outbox.id = outbox_id and tasks.id = any (task_ids)
      where tasks.status = 'pending' and outbox.id is null
      union all
      select 6, 'the stage is reduced or ended without its barrier having opened in this run', 'stage ' || id
      from stages where status in ('reducing', 'completed') and barrier_opened <> run
      union all
      select 6, 'the barrier opened more than once in a run', 'stage ' || stage_id
      from events where kind = 'barrier-opened' group by stage_id, details ->> 'run' having count(*) > 1
      union all
      select 6, 'the result of the stage differs from its tasks', 'stage ' || stages.id
      from stages join counted using (id)
      where result is not null and stages.status = 'completed' and discarded_at is null
        and ((result ->> 'successful_tasks')::int <> counted.completed or (result ->> 'failed_tasks')::int <> counted.failed
          or (result ->> 'task_count')::int <> planned)
      union all
      select 8, 'a redriven message was opened by no item', 'poison ' || poison_messages.id
      from poison_messages where status = 'redriven' and not exists (
        select from redrive_items where poison_id = poison_messages.id and opened_at is not null)
      union all
      select 8, 'an item was opened, and its message is not redriven', 'item ' || redrive_items.id
      from redrive_items join poison_messages on poison_messages.id = poison_id
      where redrive_items.opened_at is not null and redrive_items.status <> 'skipped' and poison_messages.status <> 'redriven'
      union all
      select 8, 'the task of an item was never opened', 'item ' || item.id
      from redrive_items as item join tasks on tasks.id = task_id join jobs on jobs.id = item.job_id
      where item.status in ('opened', 'succeeded', 'failed-again', 'cancelled') and tasks.reopened <= item.reopened
        and not (item.status = 'opened' and (tasks.retry_run = item.job_run and jobs.run = item.job_run or jobs.ended_at is not null))
    )
    select * from found order by invariant, subject limit 100`;
}

/** Jobs that have not ended: with everything running again, after a while there must be none. */
export async function findUnendedJobs(db: Db): Promise<readonly string[]> {
  const rows = await db<
    { id: string }[]
  >`select id from jobs where status in ('queued', 'processing', 'stopping') order by created_at`;
  return rows.map(({ id }) => id);
}

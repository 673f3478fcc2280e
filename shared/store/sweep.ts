import type postgres from "postgres";
import type { TransportName } from "../transports.ts";
import { type Db, withConflictRetry } from "./database.ts";
import { startHint } from "./jobs.ts";
import { takeLease } from "./leases.ts";
import { inFlight } from "./outbox.ts";
import { maxStageFailures, maxStageInterruptions, stageHint, stageLeaseMs } from "./stages.ts";
import type { StageTasks } from "./tasks.ts";

/** A hint may be lost once it was sent so long ago; doubles with each re-send. */
export const hintAgeMs = 20_000;

/** How long one sweeper may go without saying so before another takes over. */
const sweepLeaseMs = 3_000;

/** Takes or renews the lease of the sweep. Two sweeps at once would be harmless: every repair repeats its guard. */
export async function takeSweepLease(db: Db, owner: string): Promise<boolean> {
  return await takeLease(db, "sweep", owner, sweepLeaseMs);
}

/** How long the server has been up: leases could not be renewed while it was away, so they mean nothing yet. */
export async function readUptimeMs(db: Db): Promise<number> {
  const [row] = await db<{ uptime: number }[]>`
    select (extract(epoch from now() - pg_postmaster_start_time()) * 1000)::float as uptime`;
  return row?.uptime ?? 0;
}

/**
 * Frees stages whose orchestrator's lease expired, each counted and hinted anew. Returns jobs whose stage reached a bound, now or
 * earlier: whoever counted may have died, or not heard the answer, before it closed the job.
 */
export async function interruptStages(db: Db): Promise<{ freed: number; exhausted: readonly string[] }> {
  const rows = await withConflictRetry(() =>
    db<{ jobId: string; freed: boolean; exhausted: boolean }[]>`
    with freed as (
      update stages set owner = null, lease_until = null, interruptions = interruptions + 1, sends = sends + 1, hinted_at = now()
      where status in ('planning', 'reducing') and lease_until < now() and discarded_at is null
      returning *
    ), hint as (${stageHint(db, db`(select * from freed where interruptions < ${maxStageInterruptions})`)}), noted as (
      insert into events (job_id, stage_id, kind, details)
      select job_id, id, 'stage-interrupted', jsonb_build_object('status', status, 'interruptions', interruptions) from freed
    )
    select job_id as "jobId", true as freed, interruptions >= ${maxStageInterruptions} as exhausted from freed
    union all
    select job_id, false, true from stages
    where status in ('planning', 'reducing') and owner is null and discarded_at is null
      and (interruptions >= ${maxStageInterruptions}
        or failures >= ${maxStageFailures} and hinted_at < now() - ${stageLeaseMs} * interval '1 ms')`
  );
  return {
    freed: rows.filter((row) => row.freed).length,
    exhausted: rows.filter((row) => row.exhausted).map((row) => row.jobId),
  };
}

/**
 * Hints stages of a transport again that want to be planned or reduced, have no owner, and whose last hint was sent long ago. As
 * `hintTasksAgain`: to be called when the queue holds fewer messages than it should, oldest first.
 */
export async function hintStagesAgain(db: Db, transport: TransportName, limit: number): Promise<number> {
  const rows = await withConflictRetry(() =>
    db`
    with held as (
      select stages.id from stages join jobs on jobs.id = job_id
      where ${isStageWaiting(db, transport)}
        and hinted_at < now() - ${hintAgeMs} * interval '1 ms' * 2 ^ least(sends - 1, 6)
      order by hinted_at limit ${limit} for update of stages skip locked
    ), waiting as (
      update stages set sends = sends + 1, hinted_at = now() from held where stages.id = held.id
      returning stages.*
    ), hint as (${stageHint(db, db`waiting`)})
    insert into events (job_id, stage_id, kind, details)
    select job_id, id, 'stage-hinted-again', jsonb_build_object('status', status, 'sends', sends) from waiting
    returning id`
  );
  return rows.length;
}

/** The same for queued jobs and their start hints. */
export async function hintJobsAgain(db: Db, transport: TransportName, limit: number): Promise<number> {
  const rows = await withConflictRetry(() =>
    db`
    with held as ( -- limited to those that are to be hinted, or others that wait at the front would keep them from it
      select id from jobs
      where ${isJobWaiting(db, transport)}
        and updated_at < now() - ${hintAgeMs} * interval '1 ms' * 2 ^ least(start_sends - 1, 6)
      order by updated_at limit ${limit} for update skip locked
    ), waiting as (
      update jobs set start_sends = start_sends + 1, updated_at = now() from held where jobs.id = held.id
      returning jobs.*
    ), hint as (${startHint(db, db`waiting`)})
    insert into events (job_id, kind, details)
    select id, 'job-hinted-again', jsonb_build_object('sends', start_sends) from waiting
    returning id`
  );
  return rows.length;
}

/** Its start hint was sent. */
export function isJobWaiting(db: Db, transport: TransportName): postgres.PendingQuery<postgres.Row[]> {
  return db`jobs.status = 'queued' and processing_path = ${transport}
    and not exists (select from outbox where job_id = jobs.id and kind = 'start-job' and outbox.status = 'pending_queue')`;
}

/** It is there to be taken, and its hint was sent. */
export function isStageWaiting(db: Db, transport: TransportName): postgres.PendingQuery<postgres.Row[]> {
  return db`stages.status in ('planning', 'reducing') and owner is null and discarded_at is null
    and jobs.status = 'processing' and processing_path = ${transport} and coalesce(not_before <= now(), true)
    and not exists (select from outbox where stage_id = stages.id and kind = 'stage' and outbox.status = 'pending_queue')`;
}

/**
 * The messages that ought to be in `jobs` and in `stages`: one for what waits, and one, under its lock, for each stage that is
 * being worked on. A first stage that was never hinted itself is planned under the message that started its job.
 */
export async function readExpectedHints(db: Db, transport: TransportName): Promise<{ jobs: number; stages: number }> {
  const [row] = await db<{ jobs: number; stages: number }[]>`
    with owned as (
      select status = 'planning' and number = 1 and sends = 1 as by_start from stages
      where status in ('planning', 'reducing') and owner is not null and discarded_at is null
        and job_id in (select id from jobs where status = 'processing' and processing_path = ${transport})
    )
    select
      (select count(*) from jobs where ${isJobWaiting(db, transport)})::int
        + (select count(*) from owned where by_start)::int as jobs,
      (select count(*) from stages join jobs on jobs.id = job_id where ${isStageWaiting(db, transport)})::int
        + (select count(*) from owned where not by_start)::int as stages`;
  return row ?? { jobs: 0, stages: 0 };
}

/** Sealed stages with nothing open that never moved. Nothing in this design leaves one; the sweep would mend it. */
export async function findStuckStages(db: Db): Promise<readonly number[]> {
  const rows = await db<{ id: number }[]>`
    select stages.id from stages join jobs on jobs.id = job_id
    where stages.status = 'open' and sealed and planned = completed + failed + cancelled and jobs.status = 'processing'
      and discarded_at is null`;
  return rows.map(({ id }) => id);
}

/** Per queue: the fewest messages that ought to be in the broker for the open tasks that were sent. */
export async function readExpectedMessages(db: Db, transport: TransportName): Promise<ReadonlyMap<string, number>> {
  const rows = await db<{ queue: string; messages: number }[]>`
    select queue, sum(messages)::int as messages from (${inFlight(db, transport)}) as counted group by queue`;
  return new Map(rows.map(({ queue, messages }) => [queue, messages]));
}

/**
 * Sends hints again of tasks of this queue that are pending and due and whose hint was sent long ago, oldest first, one task a
 * message. To be called when the queue holds fewer messages than it should; never counted against the task.
 */
export async function hintTasksAgain(db: Db, transport: TransportName, queue: string, limit: number): Promise<number> {
  const rows = await withConflictRetry(() =>
    db`
    with held as (
      select tasks.id, nextval('outbox_id_seq') as new_outbox_id from tasks
      join stages on stages.id = tasks.stage_id join jobs on jobs.id = stages.job_id join outbox on outbox.id = tasks.outbox_id
      where tasks.status = 'pending' and coalesce(tasks.not_before <= now(), true)
        and stages.status in ('planning', 'open') and stages.queue = ${queue}
        and jobs.status = 'processing' and processing_path = ${transport}
        and outbox.status = 'queued' and sent_at < now() - ${hintAgeMs} * interval '1 ms' * 2 ^ least(resends, 6)
      order by tasks.id limit ${limit} for update of tasks skip locked
    ), moved as (
      update tasks set resends = resends + 1, outbox_id = new_outbox_id from held where tasks.id = held.id
      returning tasks.id, stage_id, index, attempt, resends, reopened, outbox_id
    ), hint as (
      insert into outbox (id, batch_id, job_id, stage_id, transport, queue, kind, run, task_ids, urgent)
      select outbox_id, job_id || '-s' || number || '-r' || stages.run || '-t' || index || '-a' || attempt || '-h' || resends
          || case reopened when 0 then '' else '-d' || reopened end, -- a redrive lets resends begin anew
        job_id, stages.id, processing_path, stages.queue, 'tasks', stages.run, array[moved.id], true
      from moved join stages on stages.id = stage_id join jobs on jobs.id = job_id
      on conflict (batch_id) do nothing
    )
    insert into events (job_id, stage_id, kind, details)
    select job_id, stages.id, 'tasks-hinted-again', jsonb_build_object('tasks', count(*))
    from moved join stages on stages.id = stage_id group by job_id, stages.id
    returning (details ->> 'tasks')::int as tasks`
  );
  return rows.reduce((sum, row) => sum + Number(row.tasks), 0);
}

/** Alive, with something open, and past their deadline. */
export async function findOverdueStages(db: Db): Promise<readonly StageTasks[]> {
  return await db<StageTasks[]>`
    select id as "stageId", next_index as "nextIndex" from stages
    where status in ('planning', 'open') and deadline_at < now() and planned > completed + failed + cancelled`;
}

export async function findStoppingJobs(db: Db): Promise<readonly string[]> {
  const rows = await db<{ id: string }[]>`select id from jobs where status = 'stopping'`;
  return rows.map(({ id }) => id);
}

/** Leases long gone that no attempt refers to. */
export async function removeDeadRunners(db: Db): Promise<void> {
  await db`
    delete from runners where lease_until < now() - interval '1 hour'
      and not exists (select from tasks where runner_id = runners.id and status = 'processing')`;
}

import type { TransportName } from "../../transports.ts";
import type { Db } from "../database.ts";

export async function countRows(db: Db): Promise<{ readonly jobs: number; readonly stages: number; readonly batches: number }> {
  const [rows] = await db<[{ jobs: number; stages: number; batches: number }]>`
    select (select count(*)::int from jobs) as jobs, (select count(*)::int from stages) as stages,
      (select count(*)::int from outbox) as batches`;
  return rows;
}

/** Repairs of the sweep after this event, by kind; of tasks hinted again, each counts. */
export async function countRepairsOfSweep(db: Db, afterEvent: number): Promise<Readonly<Record<string, number>>> {
  const rows = await db<{ kind: string; repairs: number }[]>`
    select kind, sum(coalesce((details ->> 'tasks')::int, 1))::int as repairs from events
    where id > ${afterEvent}
      and kind in ('task-interrupted', 'stage-interrupted', 'stage-hinted-again', 'job-hinted-again', 'tasks-hinted-again', 'task-expired')
    group by kind order by kind`;
  return Object.fromEntries(rows.map(({ kind, repairs }) => [kind, repairs]));
}

/** What the next round of the sweep has to do, by the kind of event it would write; hints depend on the broker, and are left out. */
export async function countDueRepairs(db: Db, graceMs: number): Promise<Readonly<Record<string, number>>> {
  const [due] = await db<[Record<string, number>]>`
    select
      (select count(*)::int from tasks join stages on stages.id = stage_id left join runners on runners.id = runner_id
        where tasks.status = 'processing' and (coalesce(runners.lease_until < now(), true)
          or claimed_at < now() - (stages.timeout_ms + ${graceMs}::float) * interval '1 ms')) as "task-interrupted",
      (select count(*)::int from stages
        where status in ('planning', 'reducing') and lease_until < now() and discarded_at is null) as "stage-interrupted",
      (select coalesce(sum(planned - completed - failed - cancelled), 0)::int from stages
        where status in ('planning', 'open') and deadline_at < now()) as "task-expired"`;
  return due;
}

export interface RunnerRow {
  readonly transport: TransportName;
  /** Queues by the names of the broker, separated by commas. */
  readonly queue: string;
  readonly live: number;
  readonly dead: number;
}

export async function countRunners(db: Db): Promise<readonly RunnerRow[]> {
  return await db<RunnerRow[]>`
    select processing_path as transport, queue, count(*) filter (where lease_until > now())::int as live,
      count(*) filter (where lease_until <= now())::int as dead
    from runners group by processing_path, queue order by processing_path, queue`;
}

export interface WaitingWork {
  readonly transport: TransportName;
  /** Of the outbox: 'tasks', or a stage's own. */
  readonly queue: string;
  readonly stages: number;
  readonly tasks: number;
}

/** Open tasks of stages that have been there for so long, by queue. */
export async function listWaitingWork(db: Db, waitingMs: number): Promise<readonly WaitingWork[]> {
  return await db<WaitingWork[]>`
    select processing_path as transport, queue, count(*)::int as stages, sum(planned - completed - failed - cancelled)::int as tasks
    from stages join jobs on jobs.id = job_id
    where stages.status in ('planning', 'open') and jobs.status = 'processing' and planned > completed + failed + cancelled
      and stages.created_at < now() - ${waitingMs} * interval '1 ms'
    group by processing_path, queue`;
}

import { type Db } from "../database.ts";
import { maxStageFailures, maxStageInterruptions, stageLeaseMs } from "../stages.ts";
import { type FoundRows, foundRows, type Place } from "./found.ts";

interface Lateness {
  readonly lateMs: number;
  readonly limit: number;
}

/** Sealed stages of live jobs with nothing open, by their counters and by their tasks, whose barrier hasn't opened. */
export async function findShutStages(db: Db, limit: number): Promise<FoundRows<Place & { total: number }>> {
  return foundRows(
    await db<(Place & { total: number })[]>`
    select stages.id as "stageId", job_id as "jobId", count(*) over ()::int as total from stages join jobs on jobs.id = job_id
    where stages.status = 'open' and sealed and planned = completed + failed + cancelled and jobs.status = 'processing'
      and discarded_at is null
      and not exists (select from tasks where stage_id = stages.id and tasks.status in ('pending', 'processing'))
    order by stages.id limit ${limit}`,
  );
}

export interface StalledStage extends Place {
  readonly status: "planning" | "reducing";
  /** `lease`: its owner's expired. `bound`: failed or interrupted too often, and its job was not closed. */
  readonly why: "lease" | "bound";
  readonly owner: string | null;
  readonly leaseUntil: string | null;
  readonly total: number;
}

/** Stages to be planned or reduced that nobody works on, for longer than the sweep lets pass. */
export async function findStalledStages(db: Db, { lateMs, limit }: Lateness): Promise<FoundRows<StalledStage>> {
  return foundRows(
    await db<StalledStage[]>`
    select *, count(*) over ()::int as total from (
      select stages.id as "stageId", job_id as "jobId", stages.status, owner, lease_until::text as "leaseUntil",
        case when lease_until < now() - ${lateMs} * interval '1 ms' then 'lease'
          when owner is null and hinted_at < now() - (${stageLeaseMs}::float + ${lateMs}::float) * interval '1 ms'
            and (interruptions >= ${maxStageInterruptions} or failures >= ${maxStageFailures}) then 'bound' end as why
      from stages join jobs on jobs.id = job_id
      where stages.status in ('planning', 'reducing') and discarded_at is null and jobs.status = 'processing'
    ) as found where why is not null order by "stageId" limit ${limit}`,
  );
}

/** Stages past their deadline with something open. */
export async function findLateStages(
  db: Db,
  { lateMs, limit }: Lateness,
): Promise<FoundRows<Place & { open: number; total: number }>> {
  return foundRows(
    await db<(Place & { open: number; total: number })[]>`
    select stages.id as "stageId", job_id as "jobId", planned - completed - failed - cancelled as open, count(*) over ()::int as total
    from stages join jobs on jobs.id = job_id
    where stages.status in ('planning', 'open') and jobs.status = 'processing'
      and deadline_at < now() - ${lateMs} * interval '1 ms' and planned > completed + failed + cancelled
    order by stages.id limit ${limit}`,
  );
}

export interface StalledJob {
  readonly jobId: string;
  /** `stage`: processing without a live stage. `stopping`: for minutes. */
  readonly why: "stage" | "stopping";
  readonly run: number;
  readonly open: number;
  /** Of those with the same reason. */
  readonly total: number;
}

/** A job of millions takes a while to close. */
const stoppingMs = 300_000;

export async function findStalledJobs(db: Db, limit: number): Promise<readonly StalledJob[]> {
  return await db<StalledJob[]>`
    select *, count(*) over (partition by why)::int as total from (
      select id as "jobId", run, coalesce(open_tasks, 0)::int as open,
        case when status = 'processing' and coalesce(live_stages, 0) = 0 then 'stage'
          when status = 'stopping' and updated_at < now() - ${stoppingMs} * interval '1 ms' then 'stopping' end as why
      from jobs left join lateral (
        select sum(planned - completed - failed - cancelled) as open_tasks,
          count(*) filter (where stages.status in ('planning', 'open', 'reducing')) as live_stages
        from stages where job_id = jobs.id and discarded_at is null
      ) as own on true
      where status in ('processing', 'stopping')
    ) as found where why is not null order by "jobId" limit ${limit}`;
}

import type { TaskStatus } from "../../status.ts";
import type { Db } from "../database.ts";
import type { StageSlice } from "./balance.ts";
import { type FoundRows, foundRows, type Place } from "./found.ts";

export interface StrayTask extends Place {
  readonly taskId: number;
  readonly status: TaskStatus;
  readonly claimId: string | null;
  readonly jobHasEnded: boolean;
  readonly total: number;
}

/** Open tasks that nobody will run: their job has ended, or their stage is past. */
export async function findStrayTasks(
  db: Db,
  { jobHasEnded }: { readonly jobHasEnded: boolean },
  limit: number,
): Promise<FoundRows<StrayTask>> {
  return foundRows(
    await db<StrayTask[]>`
    select tasks.id as "taskId", tasks.status, claim_id as "claimId", stage_id as "stageId", job_id as "jobId",
      ended_at_job is not null as "jobHasEnded", count(*) over ()::int as total
    from (
      select stages.id as stage_id, job_id, jobs.ended_at as ended_at_job from stages join jobs on jobs.id = job_id
      where ${
      jobHasEnded ? db`jobs.ended_at is not null` : db`jobs.status in ('queued', 'processing')
          and (stages.status in ('reducing', 'completed', 'failed', 'cancelled') or discarded_at is not null)`
    }
    ) as past join tasks using (stage_id)
    where tasks.status in ('pending', 'processing') order by tasks.id limit ${limit}`,
  );
}

/** Stages that are alive although their job has ended. */
export async function findStrayStages(db: Db, limit: number): Promise<FoundRows<Place & { status: string; total: number }>> {
  return foundRows(
    await db<(Place & { status: string; total: number })[]>`
    select stages.id as "stageId", job_id as "jobId", stages.status, count(*) over ()::int as total
    from stages join jobs on jobs.id = job_id
    where stages.status in ('planning', 'open', 'reducing') and discarded_at is null and jobs.ended_at is not null
    order by stages.id limit ${limit}`,
  );
}

/** Pending tasks of live stages whose newest hint has no row in the outbox, or one that doesn't name them. */
export async function findUnhintedTasks(
  db: Db,
  { from, to }: StageSlice,
  limit: number,
): Promise<FoundRows<Place & { taskId: number; outboxId: number; total: number }>> {
  return foundRows(
    await db<(Place & { taskId: number; outboxId: number; total: number })[]>`
    with waiting as materialized (
      select tasks.id, tasks.outbox_id, stage_id, job_id from stages join jobs on jobs.id = job_id join tasks on stage_id = stages.id
      where stages.id between ${from} and ${to} and stages.status in ('planning', 'open') and jobs.status = 'processing'
        and tasks.status = 'pending'
    ), hinted as materialized (
      select outbox.id as outbox_id, unnest(task_ids) as id from outbox
      where outbox.id in (select outbox_id from waiting)
    )
    select id as "taskId", outbox_id as "outboxId", stage_id as "stageId", job_id as "jobId", count(*) over ()::int as total
    from waiting left join (select outbox_id, id, true as found from hinted) as hinted using (outbox_id, id)
    where found is null order by id limit ${limit}`,
  );
}

export interface LateAttempt extends Place {
  readonly taskId: number;
  readonly claimId: string;
  readonly runnerId: string;
  readonly attempt: number;
  readonly total: number;
}

/** Attempts whose lease expired, or that outlived their time-out and grace, so long ago that the sweep ought to have freed them. */
export async function findZombies(
  db: Db,
  { graceMs, lateMs, limit }: { readonly graceMs: number; readonly lateMs: number; readonly limit: number },
): Promise<FoundRows<LateAttempt>> {
  return foundRows(
    await db<LateAttempt[]>`
    select tasks.id as "taskId", claim_id as "claimId", runner_id as "runnerId", attempt, stage_id as "stageId", job_id as "jobId",
      count(*) over ()::int as total
    from tasks join stages on stages.id = stage_id left join runners on runners.id = runner_id
    where tasks.status = 'processing'
      and (coalesce(runners.lease_until, claimed_at) < now() - ${lateMs} * interval '1 ms'
        or claimed_at < now() - (stages.timeout_ms + ${graceMs}::float + ${lateMs}::float) * interval '1 ms')
    order by tasks.id limit ${limit}`,
  );
}

export interface DeadRunner {
  readonly runnerId: string;
  readonly transport: string;
  readonly queue: string;
  readonly leaseUntil: string;
  readonly tasks: number;
  readonly total: number;
}

/** Runners whose lease expired so long ago, and under whom attempts still run. */
export async function findDeadRunners(
  db: Db,
  { lateMs, limit }: { readonly lateMs: number; readonly limit: number },
): Promise<FoundRows<DeadRunner>> {
  return foundRows(
    await db<DeadRunner[]>`
    select runners.id as "runnerId", processing_path as transport, queue, lease_until::text as "leaseUntil", count(*)::int as tasks,
      count(*) over ()::int as total
    from runners join tasks on runner_id = runners.id and tasks.status = 'processing'
    where lease_until < now() - ${lateMs} * interval '1 ms'
    group by runners.id order by runners.id limit ${limit}`,
  );
}

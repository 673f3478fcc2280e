import type { Db } from "../database.ts";
import { type FoundRows, foundRows, type Place } from "./found.ts";

/** Stages by id, so many that their tasks are counted well within the time that one statement has. */
export interface StageSlice {
  readonly from: number;
  readonly to: number;
  /** As the stages' counters say. */
  readonly tasks: number;
}

const tasksOfSlice = 250_000;

export async function listStageSlices(db: Db, { onlyAlive }: { readonly onlyAlive: boolean }): Promise<readonly StageSlice[]> {
  return await db<StageSlice[]>`
    select min(id) as "from", max(id) as "to", sum(planned)::int as tasks from (
      select id, planned, (sum(planned + 1) over (order by id) - planned - 1) / ${tasksOfSlice}::int as slice from stages
      ${onlyAlive ? db`where status in ('planning', 'open', 'reducing')` : db``}
    ) as numbered group by slice order by min(id)`;
}

export interface CountedStage extends Place {
  readonly planned: number;
  readonly nextIndex: number;
  readonly completed: number;
  readonly failed: number;
  readonly cancelled: number;
  /** The same, by a full count. */
  readonly counted: { readonly total: number; readonly completed: number; readonly failed: number; readonly cancelled: number };
  /** Rows are missing among its indexes, or at their end. */
  readonly hasGap: boolean;
  readonly isUnbalanced: boolean;
  /** It is being reduced, although something of it is open. */
  readonly isReducingTooEarly: boolean;
  /** Its StageResult counts its tasks otherwise. */
  readonly contradictsResult: boolean;
  readonly lacksResult: boolean;
  /** Completed tasks without a result of their last attempt, and others with one. */
  readonly badResults: number;
  /** Of all stages of the slice: how many have rows missing, or else one of the other faults. */
  readonly totals: {
    readonly gaps: number;
    readonly unbalanced: number;
    readonly contradictions: number;
    readonly resultsMissing: number;
  };
}

/** Sets the counters of stages against a full count, in one snapshot; returns those that differ. */
export async function findUnbalancedStages(
  db: Db,
  { from, to }: StageSlice,
  limit: number,
): Promise<readonly CountedStage[]> {
  return await db<CountedStage[]>`
    with counted as (
      select stage_id, count(*)::int as total, max(index) + 1 as last,
        count(*) filter (where status = 'completed')::int as completed, count(*) filter (where status = 'failed')::int as failed,
        count(*) filter (where status = 'cancelled')::int as cancelled,
        count(*) filter (where status = 'completed' and (result_attempt is distinct from attempt or result is null and result_ref is null)
          or status <> 'completed' and (result is not null or result_ref is not null))::int as bad_results
      from tasks where stage_id between ${from} and ${to} group by stage_id
    ), balanced as (
      select stages.*, coalesce(counted.total, 0) as all_tasks, coalesce(counted.completed, 0) as all_completed,
        coalesce(counted.failed, 0) as all_failed, coalesce(counted.cancelled, 0) as all_cancelled,
        coalesce(bad_results, 0) as bad_results, coalesce(last, 0) as last
      from stages left join counted on stage_id = stages.id where stages.id between ${from} and ${to}
    ), judged as (
      select *, last <> all_tasks or all_tasks < planned and all_tasks < next_index as has_gap,
        planned <> all_tasks or next_index <> planned or completed <> all_completed or failed <> all_failed
          or cancelled <> all_cancelled as is_unbalanced,
        status = 'reducing' and all_completed + all_failed + all_cancelled <> all_tasks as is_reducing_too_early,
        status = 'completed' and discarded_at is null and result is not null
          and ((result ->> 'successful_tasks')::int <> all_completed or (result ->> 'failed_tasks')::int <> all_failed
            or (result ->> 'task_count')::int <> all_tasks) as contradicts_result,
        status = 'completed' and discarded_at is null and result is null as lacks_result
      from balanced
    )
    select id as "stageId", job_id as "jobId", planned, next_index as "nextIndex", completed, failed, cancelled,
      json_build_object('total', all_tasks, 'completed', all_completed, 'failed', all_failed, 'cancelled', all_cancelled) as counted,
      has_gap as "hasGap", is_unbalanced as "isUnbalanced", is_reducing_too_early as "isReducingTooEarly",
      contradicts_result as "contradictsResult", lacks_result as "lacksResult", bad_results as "badResults",
      json_build_object('gaps', count(*) filter (where has_gap) over (),
        'unbalanced', count(*) filter (where is_unbalanced and not has_gap) over (),
        'contradictions', count(*) filter (where (is_reducing_too_early or contradicts_result) and not has_gap) over (),
        'resultsMissing', count(*) filter (where (lacks_result or bad_results > 0) and not has_gap) over ()) as totals
    from judged
    where has_gap or is_unbalanced or is_reducing_too_early or contradicts_result or lacks_result or bad_results > 0
    order by id limit ${limit}`;
}

/** What contradicts itself among jobs and barriers, by a snapshot of all. */
export async function findContradictions(
  db: Db,
  limit: number,
): Promise<FoundRows<{ jobId: string; stageId: number | null; what: string; total: number }>> {
  return foundRows(
    await db<{ jobId: string; stageId: number | null; what: string; total: number }[]>`
    select *, count(*) over ()::int as total from (
      select jobs.id as "jobId", null::bigint as "stageId", 'the job ended more than once in a run' as what
      from jobs join events on job_id = jobs.id and kind = 'job-ended' group by jobs.id having count(*) > jobs.run
      union all
      select jobs.id, stages.id, 'the job completed although the stage did not' from jobs join stages on job_id = jobs.id
      where jobs.status in ('completed', 'completed_with_errors') and discarded_at is null
        and stages.status in ('failed', 'cancelled')
      union all
      select jobs.id, stages.id, 'the job completed without errors although tasks of the stage failed'
      from jobs join stages on job_id = jobs.id where jobs.status = 'completed' and discarded_at is null and stages.failed > 0
      union all
      select job_id, id, 'the stage is reduced or has completed, but its barrier did not open in this run'
      from stages where status in ('reducing', 'completed') and barrier_opened <> run and discarded_at is null
      union all
      select job_id, stage_id, 'the barrier of the stage opened more than once in a run'
      from events where kind = 'barrier-opened' group by job_id, stage_id, details ->> 'run' having count(*) > 1
    ) as found order by "jobId", "stageId", what limit ${limit}`,
  );
}

/** Jobs that completed without a result. */
export async function findJobsWithoutResult(db: Db, limit: number): Promise<FoundRows<{ jobId: string; total: number }>> {
  return foundRows(
    await db<{ jobId: string; total: number }[]>`
    select id as "jobId", count(*) over ()::int as total from jobs
    where status in ('completed', 'completed_with_errors') and result is null order by id limit ${limit}`,
  );
}

import type { TransportName } from "../transports.ts";
import type { Db } from "./database.ts";

/** Of one kind of wait, in milliseconds; null where there was none. */
export interface Latency {
  readonly mean: number | null;
  readonly p50: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
}

/** What is on record of the jobs of one type that ended on one transport within the window. */
export interface TransportFacts {
  readonly processingPath: TransportName;
  readonly jobType: string;
  readonly jobs: number;
  /** Ended as `failed` or `cancelled`. */
  readonly failedJobs: number;
  readonly tasks: number;
  readonly failedTasks: number;
  readonly attempts: number;
  /** Attempts that ran into their time-out. */
  readonly timedOutAttempts: number;
  /** Attempts that ended in an error, or in nothing. */
  readonly retries: number;
  /** Tasks of these jobs for each second that one of them took. */
  readonly tasksPerSecond: number | null;
  /** Messages that were sent, those that were sent again among them. */
  readonly messages: number;
  /** From the submission to the claim of the job's first task. */
  readonly submitToFirstTask: Latency;
  /** From the beginning of a stage to the sending of the last of its batches; those that were sent again don't count. */
  readonly fanOut: Latency;
  /** From the sending of a task's newest hint to its claim. */
  readonly queueWait: Latency;
  /** From the opening of a barrier to the claim of the next stage's first task. */
  readonly barrierToNextStage: Latency;
  /** From the submission to the end. */
  readonly job: Latency;
}

export interface ComparisonWindow {
  readonly hours: number;
  readonly jobType?: string | undefined;
  readonly jobId?: string | undefined;
}

/** One row for each transport and job type of the jobs that ended in the last `hours`, from their rows alone. */
export async function readTransportFacts(
  db: Db,
  { hours, jobType, jobId }: ComparisonWindow,
): Promise<readonly TransportFacts[]> {
  const latency = (values: string) =>
    db`json_build_object('mean', avg(${db(values)}), 'p50', percentile_cont(0.5) within group (order by ${db(values)}),
      'p95', percentile_cont(0.95) within group (order by ${db(values)}),
      'p99', percentile_cont(0.99) within group (order by ${db(values)}))`;
  const none = db`'{"mean": null, "p50": null, "p95": null, "p99": null}'`;
  const milliseconds = (interval: ReturnType<typeof db>) => db`(extract(epoch from ${interval}) * 1000)::float`;
  return await db<TransportFacts[]>`
    with ended as materialized (
      select id, processing_path, job_type, status, created_at, ${milliseconds(db`ended_at - created_at`)} as job_ms from jobs
      where ended_at > now() - ${hours} * interval '1 hour' ${jobType ? db`and job_type = ${jobType}` : db``}
        ${jobId ? db`and id = ${jobId}` : db``}
    ), stage as materialized (
      select stages.id, job_id, number, stages.created_at, sealed_at, reducing_at, processing_path, job_type from stages join ended on ended.id = job_id
      where discarded_at is null
    ), task as materialized (
      select stage.job_id, stage.number, stage.processing_path, stage.job_type, tasks.status, attempt, tasks.failures, interruptions,
        claimed_at, case when claimed_at >= sent_at then ${milliseconds(db`claimed_at - sent_at`)} end as wait_ms
      from stage join tasks on tasks.stage_id = stage.id join outbox on outbox.id = tasks.outbox_id
    ), of_tasks as (
      select processing_path, job_type, count(*)::int as tasks, count(*) filter (where status = 'failed')::int as failed_tasks,
        sum(attempt)::int as attempts, sum(failures + interruptions)::int as retries, ${latency("wait_ms")} as queue_wait
      from task group by processing_path, job_type
    ), begun as materialized (
      select job_id, number, min(claimed_at) as at from task group by job_id, number
    ), of_stages as (
      select stage.processing_path, stage.job_type, ${latency("gap_ms")} as barrier_to_next_stage
      from stage join begun on begun.job_id = stage.job_id and begun.number = stage.number + 1
      cross join lateral (select ${milliseconds(db`begun.at - stage.reducing_at`)} as gap_ms) as gap
      group by stage.processing_path, stage.job_type
    ), of_fan_outs as (
      select processing_path, job_type, ${latency("fan_out_ms")} as fan_out
      from stage cross join lateral (
        select ${milliseconds(db`max(sent_at) - stage.created_at`)} as fan_out_ms from outbox
        where stage_id = stage.id and kind = 'tasks' and sends = 1 and outbox.created_at <= sealed_at
      ) as sending
      group by processing_path, job_type
    ), of_jobs as (
      select processing_path, job_type, count(*)::int as jobs,
        count(*) filter (where status in ('failed', 'cancelled'))::int as failed_jobs, sum(job_ms) / 1000 as seconds,
        ${latency("job_ms")} as job, ${latency("first_ms")} as submit_to_first_task
      from ended
      left join lateral (
        select ${
    milliseconds(db`begun.at - ended.created_at`)
  } as first_ms from begun where job_id = ended.id order by number limit 1
      ) as first on true
      group by processing_path, job_type
    ), of_messages as (
      select processing_path, job_type,
        sum(sends * greatest(1, ceil(cardinality(task_ids)::float / tasks_per_message)))::int as messages
      from outbox join ended on ended.id = job_id group by processing_path, job_type
    ), of_time_outs as (
      select processing_path, job_type, count(*)::int as timed_out
      from events join ended on ended.id = job_id
      where kind = 'task-attempt-failed' and details -> 'error' ->> 'code' = 'timed-out' group by processing_path, job_type
    )
    select processing_path as "processingPath", job_type as "jobType", jobs, failed_jobs as "failedJobs", coalesce(tasks, 0) as tasks,
      coalesce(failed_tasks, 0) as "failedTasks", coalesce(attempts, 0) as attempts, coalesce(timed_out, 0) as "timedOutAttempts",
      coalesce(retries, 0) as retries, tasks / nullif(seconds, 0) as "tasksPerSecond", coalesce(messages, 0) as messages,
      submit_to_first_task as "submitToFirstTask", coalesce(fan_out, ${none}::json) as "fanOut", coalesce(queue_wait, ${none}::json) as "queueWait",
      coalesce(barrier_to_next_stage, ${none}::json) as "barrierToNextStage", job
    from of_jobs left join of_tasks using (processing_path, job_type) left join of_stages using (processing_path, job_type)
    left join of_fan_outs using (processing_path, job_type)
    left join of_messages using (processing_path, job_type) left join of_time_outs using (processing_path, job_type)
    order by job_type, processing_path`;
}

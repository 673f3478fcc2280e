import type postgres from "postgres";
import type { JsonObject } from "../contracts/parse.ts";
import type { Decision, StageResult } from "../contracts/stage-result.ts";
import type { ErrorRecord } from "../errors.ts";
import { type Db, type Sql, withConflictRetry } from "./database.ts";
import { type Batch, batchJson, firstSendLeaseMs } from "./outbox.ts";

/** How long an orchestrator holds a stage without renewing. */
export const stageLeaseMs = 10_000;
/** Times that plan, reduce, decide or finalize may throw, or be interrupted, before the job has failed. */
export const maxStageFailures = 5;
export const maxStageInterruptions = 3;
export const maxStageRetries = 3;

/** What a stage's row takes from its definition. */
export interface StageSeed {
  readonly number: number;
  readonly name: string;
  readonly taskType: string;
  readonly queue: string;
  readonly tasksPerMessage: number;
  readonly timeoutMs: number;
  /** From the moment the stage begins; null: it may take as long as it takes. */
  readonly deadlineMs: number | null;
}

/** A stage that this orchestrator plans or reduces, under a lease. Every write of it is guarded by owner, run and status. */
export interface ClaimedStage {
  readonly stageId: number;
  readonly jobId: string;
  readonly number: number;
  readonly run: number;
  readonly status: "planning" | "reducing";
  readonly owner: string;
  readonly tasksPerMessage: number;
  readonly nextIndex: number;
  readonly planned: number;
  readonly completed: number;
  readonly failed: number;
  readonly retries: number;
}

/** A ClaimedStage, of a row of `stages`. */
export function claimedStage(db: Db): postgres.PendingQuery<postgres.Row[]> {
  return db`stages.id as "stageId", stages.job_id as "jobId", stages.number, stages.run, stages.status, stages.owner,
    stages.tasks_per_message as "tasksPerMessage", stages.next_index as "nextIndex", stages.planned, stages.completed, stages.failed, stages.retries`;
}

export async function insertStage(db: Db, owner: string, jobId: string, run: number, seed: StageSeed): Promise<ClaimedStage> {
  const { number, name, taskType, queue, tasksPerMessage, timeoutMs, deadlineMs } = seed;
  const [stage] = await db<ClaimedStage[]>`
    insert into stages (job_id, number, name, task_type, queue, tasks_per_message, timeout_ms, deadline_ms, deadline_at, run, owner,
      lease_until)
    values (${jobId}, ${number}, ${name}, ${taskType}, ${queue}, ${tasksPerMessage}, ${timeoutMs}, ${deadlineMs},
      now() + ${deadlineMs}::bigint * interval '1 ms', ${run}, ${owner}, now() + ${stageLeaseMs} * interval '1 ms')
    returning ${claimedStage(db)}`;
  if (!stage) throw new Error(`stage ${number} of job ${jobId} was not inserted`);
  return stage;
}

/** Takes a stage of this run that wants to be planned or reduced and has no owner. Null if there is nothing to do. */
export async function takeStage(db: Db, owner: string, stageId: number, run: number): Promise<ClaimedStage | null> {
  const [stage] = await withConflictRetry(() =>
    db<ClaimedStage[]>`
    update stages set owner = ${owner}, lease_until = now() + ${stageLeaseMs} * interval '1 ms'
    from jobs
    where stages.id = ${stageId} and stages.run = ${run} and stages.status in ('planning', 'reducing') and owner is null
      and failures < ${maxStageFailures} and interruptions < ${maxStageInterruptions} -- or its job is about to be closed
      and discarded_at is null and coalesce(not_before <= now(), true) and jobs.id = job_id and jobs.status = 'processing'
    returning ${claimedStage(db)}`
  );
  return stage ?? null;
}

/** Finds what this owner holds of a job after answers were lost, and renews it. */
export async function retakeStage(db: Db, owner: string, jobId: string): Promise<ClaimedStage | null> {
  const [stage] = await db<ClaimedStage[]>`
    update stages set lease_until = now() + ${stageLeaseMs} * interval '1 ms'
    where job_id = ${jobId} and owner = ${owner} and status in ('planning', 'reducing') and discarded_at is null
    returning ${claimedStage(db)}`;
  return stage ?? null;
}

/** What is needed to know whether this process can work on a stage. */
export interface StageRow {
  readonly jobId: string;
  readonly jobType: string;
}

export async function findStage(db: Db, stageId: number): Promise<StageRow | null> {
  const [stage] = await db<StageRow[]>`
    select job_id as "jobId", job_type as "jobType"
    from stages join jobs on jobs.id = job_id where stages.id = ${stageId}`;
  return stage ?? null;
}

/** Returns false if the stage isn't ours any more. */
export async function renewStage(db: Db, { stageId, run, owner, status }: ClaimedStage): Promise<boolean> {
  const renewed = await db`
    update stages set lease_until = now() + ${stageLeaseMs} * interval '1 ms'
    where id = ${stageId} and run = ${run} and owner = ${owner} and status = ${status}`;
  return renewed.count === 1;
}

/**
 * Inserts the next tasks of a stage, in aligned batches of at most 100 messages, each an outbox row. Guarded by the job being
 * `processing`, and by owner, run, status and cursor of the stage: returns false, and inserts nothing, if one has changed.
 */
export async function insertTasks(
  db: Db,
  stage: ClaimedStage,
  { startIndex, parameters, tasksPerMessage }: { startIndex: number; parameters: readonly unknown[]; tasksPerMessage: number },
): Promise<boolean> {
  const tasksPerBatch = tasksPerMessage * 100;
  const batches = Math.ceil(parameters.length / tasksPerBatch);
  const inserted = await withConflictRetry(() =>
    db`
    with job as (
      select id, processing_path from jobs where id = ${stage.jobId} and status = 'processing' for share
    ), stage as (
      update stages set next_index = next_index + ${parameters.length}, planned = planned + ${parameters.length},
        lease_until = now() + ${stageLeaseMs} * interval '1 ms'
      from job
      where stages.id = ${stage.stageId} and run = ${stage.run} and status = 'planning' and owner = ${stage.owner}
        and next_index = ${startIndex}
      returning stages.*, processing_path
    ), batch as materialized (
      select position, nextval('outbox_id_seq') as id from generate_series(0, ${batches - 1}::integer) as position, stage
    ), task as (
      insert into tasks (stage_id, index, parameters, outbox_id)
      select stage.id, ${startIndex}::integer + ordinality - 1, value, batch.id
      from json_array_elements(${JSON.stringify(parameters)}::text::json) with ordinality
      join batch on batch.position = (ordinality - 1) / ${tasksPerBatch}::integer cross join stage
      returning id, index, outbox_id
    )
    insert into outbox (id, batch_id, job_id, stage_id, transport, queue, kind, run, tasks_per_message, task_ids)
    select batch.id, stage.job_id || '-s' || stage.number || '-r' || run || '-b' || min(task.index), stage.job_id, stage.id,
      processing_path, queue, 'tasks', run, tasks_per_message, array_agg(task.id order by task.index)
    from task join batch on batch.id = task.outbox_id cross join stage
    group by batch.id, stage.job_id, stage.number, run, stage.id, processing_path, queue, tasks_per_message
    on conflict (batch_id) do nothing`
  );
  return inserted.count > 0;
}

/** No more tasks will be planned. Evaluates the barrier too: what was planned may have ended already, or be nothing at all. */
export async function sealStage(sql: Sql, stage: ClaimedStage, nextIndex: number): Promise<readonly Batch[] | null> {
  return await withConflictRetry(() =>
    sql.begin(async (tx) => {
      const [job] = await tx`select from jobs where id = ${stage.jobId} and status = 'processing' for share`;
      if (!job) return null;
      const sealed = await tx`
        update stages set status = 'open', sealed = true, sealed_at = now(), owner = null, lease_until = null
        where id = ${stage.stageId} and run = ${stage.run} and status = 'planning' and owner = ${stage.owner}
          and next_index = ${nextIndex}`;
      if (sealed.count === 0) return null;
      await tx`
        insert into events (job_id, stage_id, kind, details)
        values (${stage.jobId}, ${stage.stageId}, 'stage-sealed', ${tx.json({ planned: nextIndex, run: stage.run })})`;
      return await openBarrier(tx, stage.owner, stage.stageId);
    })
  );
}

/** Opens the barrier of a sealed stage with nothing open, for whatever but the end of a task made it so. */
export async function openBarrier(db: Db, sender: string, stageId: number): Promise<readonly Batch[]> {
  const rows = await db<{ batch: Batch }[]>`
    with opened as (
      update stages set status = 'reducing', barrier_opened = run, reducing_at = now(), hinted_at = now()
      where id = ${stageId} and status = 'open' and sealed and planned = completed + failed + cancelled
      returning *
    ), hint as (
      insert into outbox (batch_id, job_id, stage_id, transport, queue, kind, run, sends, locked_by, locked_until)
      select job_id || '-s' || number || '-r' || opened.run || '-complete', job_id, opened.id, processing_path, 'stages', 'stage',
        opened.run, 1, ${sender}, now() + ${firstSendLeaseMs} * interval '1 ms'
      from opened join jobs on jobs.id = job_id
      on conflict (batch_id) do nothing
      returning *
    ), noted as (
      insert into events (job_id, stage_id, kind, details)
      select job_id, id, 'barrier-opened', jsonb_build_object('run', run) from opened
    )
    select ${batchJson(db)} as batch from hint as outbox join jobs on jobs.id = outbox.job_id`;
  return rows.map(({ batch }) => batch);
}

/**
 * Gives a stage back. With an error, it counts as a failure and comes again after a backoff; without one (the process is
 * going) it comes again at once. Returns how often it has failed, or null if it isn't ours any more.
 */
export async function releaseStage(db: Db, stage: ClaimedStage, error: ErrorRecord | null): Promise<number | null> {
  const failed = error ? 1 : 0;
  const [row] = await withConflictRetry(() =>
    db<{ failures: number }[]>`
    with released as (
      update stages set owner = null, lease_until = null, failures = failures + ${failed}, sends = sends + 1, hinted_at = now(),
        not_before = case when ${failed} = 1 then now() + least(30, 0.5 * 2 ^ failures) * (0.5 + random()) * interval '1 s' end
      where id = ${stage.stageId} and run = ${stage.run} and owner = ${stage.owner} and status = ${stage.status}
      returning *
    ), hint as (${stageHint(db, db`released`)}), noted as (
      insert into events (job_id, stage_id, kind, details)
      select job_id, id, 'stage-released', jsonb_build_object('status', status, 'error', ${JSON.stringify(error)}::text::jsonb)
      from released
    )
    select failures from released`
  );
  return row?.failures ?? null;
}

/** Pauses between two hints of what waits for a process that knows its type. */
export interface DeferralDelay {
  readonly firstMs: number;
  readonly maxMs: number;
}

/** When the hint after this many deferrals is due; of a row source that has counted them. */
export function deferredUntil(db: Db, { firstMs, maxMs }: DeferralDelay): postgres.PendingQuery<postgres.Row[]> {
  return db`now() + least(${maxMs}::float, ${firstMs}::float * 2 ^ (deferrals - 1)) * interval '1 ms'`;
}

/** As `deferJob`, for a stage of this run that wants to be planned or reduced and has no owner. */
export async function deferStage(
  db: Db,
  { stageId, run, delay }: { stageId: number; run: number; delay: DeferralDelay },
): Promise<number | null> {
  const [row] = await withConflictRetry(() =>
    db<{ deferrals: number }[]>`
    with deferred as (
      update stages set deferrals = deferrals + 1, sends = sends + 1, hinted_at = now()
      where id = ${stageId} and run = ${run} and status in ('planning', 'reducing') and owner is null and discarded_at is null
        and not exists (select from outbox where stage_id = stages.id and kind = 'stage' and outbox.status = 'pending_queue'
          and outbox.not_before > now())
      returning *
    ), hint as (${
      stageHint(db, db`(select id, job_id, number, run, sends, ${deferredUntil(db, delay)} as not_before from deferred)`)
    }), noted as (
      insert into events (job_id, stage_id, kind, details)
      select job_id, id, 'stage-deferred', jsonb_build_object('status', status, 'deferrals', deferrals) from deferred
    )
    select deferrals from deferred`
  );
  return row?.deferrals ?? null;
}

/** A hint of a stage under a new number, from a row source that already counted `sends`. */
export function stageHint(db: Db, stages: postgres.PendingQuery<postgres.Row[]>): postgres.PendingQuery<postgres.Row[]> {
  return db`
    insert into outbox (batch_id, job_id, stage_id, transport, queue, kind, run, not_before)
    select job_id || '-s' || number || '-r' || stage.run || '-h' || sends, job_id, stage.id, processing_path, 'stages', 'stage',
      stage.run, coalesce(not_before, now())
    from ${stages} as stage join jobs on jobs.id = job_id
    on conflict (batch_id) do nothing`;
}

export interface StageEnd {
  readonly result: StageResult;
  /** `advance` with the next stage, the end of the job with its result, or this stage once more. */
  readonly then:
    | { readonly action: "advance"; readonly next: StageSeed }
    | { readonly action: "end-job"; readonly status: "completed" | "completed_with_errors"; readonly result: JsonObject }
    | { readonly action: "fail-job"; readonly error: ErrorRecord }
    | { readonly action: "retry-stage" };
}

/** `lost`: the stage isn't ours any more, nothing was changed. */
export type Decided = "lost" | { readonly next: ClaimedStage | null };

/**
 * The decision, the end of this stage and what follows from it, in one transaction, guarded by the stage still being reduced
 * in this run by this owner and by the job being `processing` (protocol, rule 12).
 */
export async function decideStage(sql: Sql, stage: ClaimedStage, { result, then }: StageEnd): Promise<Decided> {
  return await withConflictRetry(() =>
    sql.begin(async (tx): Promise<Decided> => {
      const [job] = await tx<{ epoch: number }[]>`
        select epoch from jobs where id = ${stage.jobId} and status = 'processing' for no key update`;
      if (!job) throw new StageLostError();
      const guard = tx`id = ${stage.stageId} and run = ${stage.run} and status = 'reducing' and owner = ${stage.owner}`;
      const ended = then.action === "retry-stage" ? await reopenFailedTasks(tx, stage, guard, job.epoch + 1) : (await tx`
          update stages set status = ${then.action === "fail-job" ? "failed" : "completed"}, owner = null, lease_until = null,
            ended_at = now(), result = ${tx.json(result as never)}
          where ${guard}`).count === 1;
      if (!ended) throw new StageLostError();
      const decision: Decision = result.orchestration;
      await tx`
        insert into events (job_id, stage_id, kind, details)
        values (${stage.jobId}, ${stage.stageId}, 'stage-decided', ${tx.json({ ...decision, run: stage.run } as never)})`;
      if (then.action === "advance") {
        await tx`
          update jobs set current_stage = ${then.next.number}, epoch = epoch + 1, updated_at = now() where id = ${stage.jobId}`;
        return { next: await insertStage(tx, stage.owner, stage.jobId, job.epoch + 1, then.next) };
      }
      if (then.action === "retry-stage") {
        await tx`update jobs set epoch = epoch + 1, updated_at = now() where id = ${stage.jobId}`;
        return { next: null };
      }
      const [status, jobResult, error] = then.action === "end-job"
        ? [then.status, tx.json(then.result as never), null] as const
        : ["failed", null, tx.json({ ...then.error })] as const;
      await tx`
        update jobs set status = ${status}, result = ${jobResult}, error = ${error}, ended_at = now(), updated_at = now()
        where id = ${stage.jobId}`;
      await tx`insert into events (job_id, kind, details) values (${stage.jobId}, 'job-ended', ${tx.json({ status })})`;
      return { next: null };
    })
  ).catch((error: unknown): Decided => {
    if (error instanceof StageLostError) return "lost";
    throw error;
  });
}

/** Rolls a decision back. */
class StageLostError extends Error {}

/** The failed tasks of a stage once more, in a new run: pending, with budgets as new, in new batches. */
async function reopenFailedTasks(
  tx: Db,
  stage: ClaimedStage,
  guard: postgres.PendingQuery<postgres.Row[]>,
  run: number,
): Promise<boolean> {
  // Tasks before the stage, as everywhere (protocol, rule 24).
  const reopened = await tx`
    with held as (
      select id from tasks where stage_id = ${stage.stageId} and status = 'failed' order by id for update
    )
    update tasks set status = 'pending', failures = 0, interruptions = 0, deferrals = 0, resends = 0, poisonings = 0, not_before = null,
      ended_at = null
    from held where tasks.id = held.id`;
  const updated = await tx`
    update stages set status = 'open', run = ${run}, retries = retries + 1, owner = null, lease_until = null, failed = failed - ${reopened.count},
      failures = 0, interruptions = 0, poisonings = 0, deferrals = 0, deadline_at = now() + deadline_ms * interval '1 ms'
    where ${guard}`;
  if (updated.count === 0) return false;
  await hintOpenTasks(tx, stage.stageId);
  await openBarrier(tx, stage.owner, stage.stageId);
  return true;
}

/** Hints the pending tasks of a stage that was opened again, in new batches: those that are due at the same time together. */
export async function hintOpenTasks(tx: Db, stageId: number): Promise<void> {
  await tx`
    with due_task as (
      select tasks.id, index, tasks.not_before, tasks_per_message,
        dense_rank() over (order by tasks.not_before nulls first) as wave
      from tasks join stages on stages.id = stage_id where stage_id = ${stageId} and tasks.status = 'pending'
    ), open_task as (
      select id, index, not_before, wave,
        (row_number() over (partition by wave order by index) - 1) / (tasks_per_message * 100) as number
      from due_task
    ), batch as materialized (
      select wave, number, nextval('outbox_id_seq') as id, min(index) as start, array_agg(open_task.id order by index) as task_ids,
        min(not_before) as due
      from open_task group by wave, number
    ), moved as (
      update tasks set outbox_id = member.outbox_id from (select id as outbox_id, unnest(task_ids) as task_id from batch) as member
      where tasks.id = member.task_id
    )
    insert into outbox (id, batch_id, job_id, stage_id, transport, queue, kind, run, tasks_per_message, task_ids, not_before)
    select batch.id, job_id || '-s' || stages.number || '-r' || stages.run || '-b' || start, job_id, stages.id, processing_path,
      queue, 'tasks', stages.run, tasks_per_message, task_ids, coalesce(due, now())
    from batch cross join stages join jobs on jobs.id = job_id where stages.id = ${stageId}
    on conflict (batch_id) do nothing`;
}

export interface EndedStageRow {
  readonly stageId: number;
  readonly number: number;
  readonly result: StageResult;
}

/** The ended stages of a job before this number, first to last. */
export async function readEarlierStages(db: Db, jobId: string, before: number): Promise<readonly EndedStageRow[]> {
  return await db<EndedStageRow[]>`
    select id as "stageId", number, result from stages
    where job_id = ${jobId} and number < ${before} and discarded_at is null and result is not null order by number`;
}

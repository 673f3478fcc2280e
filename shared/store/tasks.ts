import type postgres from "postgres";
import type { JsonObject } from "../contracts/parse.ts";
import type { TaskOutcome } from "../contracts/stage-result.ts";
import type { ErrorRecord } from "../errors.ts";
import type { RetryPolicy } from "../jobs/define-task.ts";
import { type Db, withConflictRetry } from "./database.ts";
import { type Batch, batchJson, firstSendLeaseMs } from "./outbox.ts";

/** Attempts of one task that may end in nothing (crash, lost lease) before it has failed. */
export const maxInterruptions = 3;

export interface Claim {
  readonly taskId: number;
  /** New at every claim, chosen by the runner; asking again with the same id is the same claim. */
  readonly claimId: string;
  /** Nothing else runs in this process. Default: false. */
  readonly alone?: boolean;
}

export interface ClaimedTask extends Claim {
  readonly attempt: number;
  readonly index: number;
  readonly parameters: JsonObject;
  readonly stageId: number;
  readonly stageNumber: number;
  readonly taskType: string;
  /** Of this attempt, as the row has it: the sweep reckons by the same, and the runner's own definition may be of another version. */
  readonly timeoutMs: number;
  readonly jobId: string;
  readonly correlationId: string;
}

/**
 * `refused`: done, not due, alive elsewhere, or its job or stage is over. `alone`: its next interruption would be its last, so it is
 * claimed only by a process that runs nothing else: what kills its process fails, what was merely there doesn't. `unknown`: no such
 * row.
 */
export type ClaimAnswer = ClaimedTask | "refused" | "alone" | "unknown";

/**
 * Claims what is pending and due in jobs that are alive, for this runner; answers in the order of the claims. A claim whose
 * answer was lost may simply be asked for again: its id is the fence, so it finds itself and counts no second attempt.
 */
export async function claimTasks(db: Db, runnerId: string, claims: readonly Claim[]): Promise<readonly ClaimAnswer[]> {
  const wanted = JSON.stringify(
    claims.map(({ taskId, claimId, alone = false }) => ({ task_id: taskId, claim_id: claimId, alone })),
  );
  const rows = await withConflictRetry(() =>
    db<(ClaimedTask & { claimId: string; known: boolean; claimed: boolean; mustBeAlone: boolean })[]>`
    with wanted as (
      select * from json_to_recordset(${wanted}::text::json) as wanted(task_id bigint, claim_id text, alone boolean)
    ), held as ( -- one lock order for every group, or two groups deadlock
      select tasks.id, wanted.claim_id, tasks.status = 'processing' as again, stages.number, stages.task_type,
        stages.timeout_ms, stages.job_id, jobs.correlation_id
      from wanted
      join tasks on tasks.id = wanted.task_id
      join stages on stages.id = tasks.stage_id
      join jobs on jobs.id = stages.job_id
      where jobs.status = 'processing' and stages.status in ('planning', 'open')
        and (tasks.status = 'pending' and coalesce(tasks.not_before <= now(), true)
            and (wanted.alone or tasks.interruptions < ${maxInterruptions - 1})
          or tasks.status = 'processing' and tasks.claim_id = wanted.claim_id)
      order by tasks.id for update of tasks
    ), claimed as (
      update tasks set status = 'processing', claim_id = held.claim_id, runner_id = ${runnerId},
        attempt = attempt + (not again)::int, claimed_at = case when again then claimed_at else now() end
      from held where tasks.id = held.id
      returning tasks.id, tasks.claim_id, attempt, index, parameters, stage_id, number, task_type, timeout_ms, job_id,
        correlation_id
    )
    select wanted.claim_id as "claimId", wanted.task_id as "taskId", tasks.id is not null as known,
      tasks.status = 'pending' and tasks.interruptions >= ${maxInterruptions - 1} and not wanted.alone as "mustBeAlone",
      claimed.id is not null as claimed, claimed.attempt, claimed.index, claimed.parameters, claimed.stage_id as "stageId",
      number as "stageNumber", task_type as "taskType", timeout_ms as "timeoutMs", job_id as "jobId", correlation_id as "correlationId"
    from wanted
    left join tasks on tasks.id = wanted.task_id
    left join claimed on claimed.id = wanted.task_id and claimed.claim_id = wanted.claim_id`
  );
  const byClaim = new Map(
    rows.map(({ known, claimed, mustBeAlone, ...task }) =>
      [task.claimId, claimed ? task : !known ? "unknown" : mustBeAlone ? "alone" : "refused"] as const
    ),
  );
  return claims.map(({ claimId }) => byClaim.get(claimId) ?? "unknown");
}

/** How an attempt ended, as its runner says. */
export type AttemptEnd =
  & Claim
  & (
    | { readonly outcome: "completed"; readonly result: JsonObject }
    | { readonly outcome: "completed"; readonly resultRef: string }
    /** A permanent error spends the whole budget at once. */
    | { readonly outcome: "failed"; readonly error: ErrorRecord; readonly permanent: boolean; readonly retry: RetryPolicy }
    /** This process doesn't know the task's type; another may. */
    | { readonly outcome: "deferred"; readonly error: ErrorRecord; readonly retry: RetryPolicy }
    /** Not run to its end: the process is going. Neither a failure nor an interruption. */
    | { readonly outcome: "released" }
  );

/** What the end of attempts came to. */
export interface EndedAttempts {
  /** The attempts that were recorded, by claim id; others had lost their fence and changed nothing. */
  readonly recorded: ReadonlyMap<string, "completed" | "failed" | "cancelled" | "pending">;
  /** Stage-complete batches of barriers that this opened, locked for `sender`: to be sent now. */
  readonly batches: readonly Batch[];
}

/** Records how attempts ended that still hold their fence. A repeated or fenced-out end changes nothing. */
export async function recordAttempts(db: Db, sender: string, ends: readonly AttemptEnd[]): Promise<EndedAttempts> {
  const rows = JSON.stringify(ends.map((end) => ({
    task_id: end.taskId,
    claim_id: end.claimId,
    outcome: end.outcome,
    ...("result" in end && { result: end.result }),
    ...("resultRef" in end && { result_ref: end.resultRef }),
    ...("error" in end && { error: end.error }),
    ...("retry" in end && {
      bound: "permanent" in end && end.permanent ? 0 : end.retry.maxFailures,
      backoff_ms: end.retry.backoffMs,
      max_backoff_ms: end.retry.maxBackoffMs,
    }),
  })));
  return await endTasks(
    db,
    sender,
    db`
    ending as (
      select * from json_to_recordset(${rows}::text::json) as ending(task_id bigint, claim_id text, outcome text, result jsonb,
        result_ref text, error jsonb, bound integer, backoff_ms float, max_backoff_ms float)
    ), held as (
      select tasks.id, tasks.stage_id, tasks.claim_id,
        case when outcome = 'completed' then 'completed' when outcome = 'released' then 'pending'
          when outcome = 'failed' and failures + 1 >= bound or outcome = 'deferred' and deferrals + 1 >= bound then 'failed'
          else 'pending' end as to_status,
        ending.result, ending.result_ref, ending.error,
        (outcome = 'failed')::int as failure, 0 as interruption, (outcome = 'deferred')::int as deferral,
        coalesce(least(max_backoff_ms, backoff_ms * 2 ^ (failures + deferrals)) * (0.5 + random()), 0) as delay_ms,
        case outcome when 'failed' then 'task-attempt-failed' when 'deferred' then 'task-deferred' end as event
      from ending join tasks on tasks.id = ending.task_id
      where tasks.status = 'processing' and tasks.claim_id = ending.claim_id
      order by tasks.id for update of tasks
    )`,
  );
}

/** Frees attempts whose runner's lease expired, or which outlived their time-out by `graceMs`; at most `limit` of them. */
export async function interruptTasks(
  db: Db,
  sender: string,
  options: { graceMs: number; limit: number },
): Promise<EndedAttempts> {
  const error: ErrorRecord = {
    code: "interrupted",
    message: "the attempt ended in nothing: its runner died, hung or lost its lease",
  };
  return await endTasks(
    db,
    sender,
    db`
    found as materialized (
      select tasks.id, tasks.claim_id from tasks
      join stages on stages.id = tasks.stage_id left join runners on runners.id = tasks.runner_id
      where tasks.status = 'processing'
        and (coalesce(runners.lease_until < now(), true)
          or claimed_at < now() - (stages.timeout_ms + ${options.graceMs}) * interval '1 ms')
      order by tasks.id limit ${options.limit}
    ), held as ( -- by the fence: a row that changed meanwhile is read anew, but not its runner's, and may be another's attempt by now
      select tasks.id, tasks.stage_id, tasks.claim_id,
        case when tasks.interruptions + 1 >= ${maxInterruptions} then 'failed' else 'pending' end as to_status,
        null::jsonb as result, null::text as result_ref, ${JSON.stringify(error)}::text::jsonb as error,
        0 as failure, 1 as interruption, 0 as deferral, 0::float as delay_ms, 'task-interrupted' as event
      from tasks join found on found.id = tasks.id
      where tasks.status = 'processing' and tasks.claim_id = found.claim_id
      order by tasks.id for update of tasks skip locked
    )`,
  );
}

/**
 * Tasks of a stage by their indexes. What closes a whole stage goes through it slice by slice, each of the same cost and holding
 * its locks for a moment only. "The first so many that are open" would search through all that are, and all that it closed before.
 */
export interface TaskSlice {
  readonly stageId: number;
  readonly startIndex: number;
  readonly size: number;
}

/** What is needed to go through a stage's tasks. */
export interface StageTasks {
  readonly stageId: number;
  readonly nextIndex: number;
}

/** The slices of a stage, from its first task to its last. */
export function* sliceStage({ stageId, nextIndex }: StageTasks, size = 1_000): Generator<TaskSlice> {
  for (let startIndex = 0; startIndex < nextIndex; startIndex += size) yield { stageId, startIndex, size };
}

/** The stages of a job that have open tasks. */
export async function findStagesWithOpenTasks(db: Db, jobId: string): Promise<readonly StageTasks[]> {
  return await db<StageTasks[]>`
    select id as "stageId", next_index as "nextIndex" from stages
    where job_id = ${jobId} and planned > completed + failed + cancelled order by number, id`;
}

/** The same of these stages. */
export async function readStageTasks(db: Db, stageIds: readonly number[]): Promise<readonly StageTasks[]> {
  return await db<StageTasks[]>`
    select id as "stageId", next_index as "nextIndex" from stages
    where id in (select value::bigint from json_array_elements_text(${JSON.stringify(stageIds)}::text::json)) order by id`;
}

/**
 * What is open in a slice. Said the other way round, so that the planner takes the index on (stage_id, index), and can't take the
 * one on open tasks: that one has only the stage, and so is read from its beginning each time, closed tasks included.
 */
function openIn(db: Db, { stageId, startIndex, size }: TaskSlice): postgres.PendingQuery<postgres.Row[]> {
  return db`tasks.stage_id = ${stageId} and index >= ${startIndex}::integer and index < ${startIndex + size}::integer
    and tasks.status not in ('completed', 'failed', 'cancelled')`;
}

/** Fails what is still open in a slice of a stage that is past its deadline. What is planned later fails later. */
export async function expireTasks(db: Db, sender: string, tasks: TaskSlice): Promise<EndedAttempts> {
  const error: ErrorRecord = { code: "deadline-exceeded", message: "its stage was past its deadline" };
  return await endTasks(
    db,
    sender,
    db`
    held as (
      select tasks.id, tasks.stage_id, coalesce(tasks.claim_id, tasks.id::text) as claim_id, 'failed' as to_status,
        null::jsonb as result, null::text as result_ref, ${JSON.stringify(error)}::text::jsonb as error,
        0 as failure, 0 as interruption, 0 as deferral, 0::float as delay_ms, 'task-expired' as event
      from tasks join stages on stages.id = tasks.stage_id
      where ${openIn(db, tasks)} and stages.status in ('planning', 'open') and deadline_at < now()
      order by tasks.id for update of tasks
    )`,
  );
}

/** Closes what is still open in a slice of a stage whose job is stopping. Returns how many it closed. */
export async function cancelTasks(db: Db, sender: string, tasks: TaskSlice): Promise<number> {
  const { recorded } = await endTasks(
    db,
    sender,
    db`
    held as (
      select tasks.id, tasks.stage_id, coalesce(tasks.claim_id, tasks.id::text) as claim_id, 'cancelled' as to_status,
        null::jsonb as result, null::text as result_ref, null::jsonb as error,
        0 as failure, 0 as interruption, 0 as deferral, 0::float as delay_ms, null::text as event
      from tasks join stages on stages.id = tasks.stage_id join jobs on jobs.id = stages.job_id
      where ${openIn(db, tasks)} and jobs.status = 'stopping'
      order by tasks.id for update of tasks
    )`,
  );
  return recorded.size;
}

/** Closes what is open in a slice of a stage that nobody will run: its job has ended, or the stage was decided without it. */
export async function cancelStrayTasks(db: Db, sender: string, tasks: TaskSlice): Promise<EndedAttempts> {
  return await endTasks(
    db,
    sender,
    db`
    held as (
      select tasks.id, tasks.stage_id, coalesce(tasks.claim_id, tasks.id::text) as claim_id, 'cancelled' as to_status,
        null::jsonb as result, null::text as result_ref, null::jsonb as error,
        0 as failure, 0 as interruption, 0 as deferral, 0::float as delay_ms, 'task-cancelled' as event
      from tasks join stages on stages.id = tasks.stage_id join jobs on jobs.id = stages.job_id
      where ${openIn(db, tasks)} and (jobs.ended_at is not null
        or jobs.status in ('queued', 'processing')
          and (stages.status in ('completed', 'failed', 'cancelled') or discarded_at is not null))
      order by tasks.id for update of tasks
    )`,
  );
}

/** Fails a pending task whose newest hint, the batch of this id, ended as poison once too often. */
export async function failPoisonedTask(
  tx: Db,
  sender: string,
  { taskId, outboxId, error }: { taskId: number; outboxId: number; error: ErrorRecord },
): Promise<EndedAttempts> {
  return await endTasksOnce(
    tx,
    sender,
    tx`
    held as (
      select tasks.id, tasks.stage_id, tasks.id::text as claim_id, 'failed' as to_status,
        null::jsonb as result, null::text as result_ref, ${JSON.stringify(error)}::text::jsonb as error,
        0 as failure, 0 as interruption, 0 as deferral, 0::float as delay_ms, 'task-poisoned' as event
      from tasks join stages on stages.id = tasks.stage_id join jobs on jobs.id = stages.job_id
      where tasks.id = ${taskId} and tasks.status = 'pending' and tasks.outbox_id = ${outboxId}
        and stages.status in ('planning', 'open') and jobs.status = 'processing'
      order by tasks.id for update of tasks
    )`,
  );
}

/**
 * The one terminal path: every way an attempt or a task ends goes through this statement. `held` names the rows, locked in the
 * order of their ids and guarded by the caller, and what becomes of them; the rest (row, counters, barrier, outbox, events)
 * follows in the same transaction. The barrier is decided from the counters of the locked stage row (protocol, rules 7 to 9).
 */
async function endTasks(db: Db, sender: string, held: postgres.PendingQuery<postgres.Row[]>): Promise<EndedAttempts> {
  return await withConflictRetry(() => endTasksOnce(db, sender, held));
}

/** The same within a transaction of the caller's, who repeats that if it loses against another. */
async function endTasksOnce(db: Db, sender: string, held: postgres.PendingQuery<postgres.Row[]>): Promise<EndedAttempts> {
  const opens = db`stages.status = 'open' and sealed and planned = stages.completed + counted.completed
    + stages.failed + counted.failed + stages.cancelled + counted.cancelled`;
  const [row] = await db<{ recorded: [string, "completed"][] | null; batches: Batch[] | null }[]>`
    with ${held}, moved as (
      update tasks set
        status = to_status, claim_id = null, runner_id = null,
        result = held.result, result_ref = held.result_ref, error = coalesce(held.error, tasks.error),
        result_attempt = case when to_status = 'completed' then attempt end,
        failures = failures + failure, interruptions = interruptions + interruption, deferrals = deferrals + deferral,
        not_before = case when to_status = 'pending' then now() + delay_ms * interval '1 ms' end,
        outbox_id = case when to_status = 'pending' then nextval('outbox_id_seq') else outbox_id end,
        ended_at = case when to_status <> 'pending' then now() end
      -- As an array, so that the planner looks each up by its id, whatever it takes their number for: joined as they are, a thousand
      -- of them had it read the whole table, or its key from the beginning.
      from unnest(array(select held from held)) as held(id bigint, stage_id bigint, claim_id text, to_status text, result jsonb,
        result_ref text, error jsonb, failure integer, interruption integer, deferral integer, delay_ms float, event text)
      where tasks.id = held.id
      returning tasks.id, tasks.stage_id, held.claim_id, tasks.status, index, attempt, reopened, not_before, outbox_id, event,
        tasks.error
    ), counted as (
      select stage_id, count(*) filter (where status = 'completed')::int as completed,
        count(*) filter (where status = 'failed')::int as failed, count(*) filter (where status = 'cancelled')::int as cancelled
      from moved where status <> 'pending' group by stage_id
    ), locked as (
      select id from stages where id in (select stage_id from counted) order by id for no key update
    ), counting as (
      update stages set
        completed = stages.completed + counted.completed, failed = stages.failed + counted.failed,
        cancelled = stages.cancelled + counted.cancelled,
        status = case when ${opens} then 'reducing' else status end,
        barrier_opened = case when ${opens} then run else barrier_opened end,
        reducing_at = case when ${opens} then now() else reducing_at end,
        hinted_at = case when ${opens} then now() else hinted_at end
      from locked join counted on counted.stage_id = locked.id
      where stages.id = locked.id
      returning stages.id, stages.status, run, job_id, number
    ), inserted as (
      insert into outbox (id, batch_id, job_id, stage_id, transport, queue, kind, run, task_ids, urgent, not_before)
      select outbox_id, job_id || '-s' || number || '-r' || stages.run || '-t' || index || '-a' || attempt, job_id, stages.id,
        processing_path, stages.queue, 'tasks', stages.run, array[moved.id],
        -- interrupted or released: it goes ahead of what waits for room in the send window, in which it had its own
        moved.not_before <= now(), case when moved.not_before <= now() then stages.created_at else moved.not_before end
      from moved join stages on stages.id = moved.stage_id join jobs on jobs.id = job_id
      where moved.status = 'pending'
      on conflict (batch_id) do nothing
    ), opened as (
      insert into outbox (batch_id, job_id, stage_id, transport, queue, kind, run, sends, locked_by, locked_until)
      select job_id || '-s' || number || '-r' || counting.run || '-complete', job_id, counting.id, processing_path, 'stages',
        'stage', counting.run, 1, ${sender}, now() + ${firstSendLeaseMs} * interval '1 ms'
      from counting join jobs on jobs.id = job_id where counting.status = 'reducing'
      on conflict (batch_id) do nothing
      returning *
    ), poisoned as ( -- with the row: its message may be gone before it can end as poison, or have other tasks
      insert into poison_messages (origin, transport, queue, identity, reason, description, kind, job_id, stage_id, task_ids, run,
        attempt, error)
      select 'row', processing_path, stages.queue, ${failureIdentity(db, "moved")}, 'task-failed',
        moved.error ->> 'code' || ': ' || left(moved.error ->> 'message', 2000), 'tasks', job_id, moved.stage_id, array[moved.id],
        stages.run, attempt, moved.error
      from moved join stages on stages.id = moved.stage_id join jobs on jobs.id = job_id
      where moved.status = 'failed' and event is distinct from 'task-poisoned' -- which has its record
      on conflict (transport, queue, identity) do nothing
    ), noted as (
      insert into events (job_id, stage_id, task_id, kind, details)
      select job_id, moved.stage_id, moved.id, event,
        jsonb_build_object('status', moved.status, 'attempt', attempt, 'error', moved.error)
      from moved join stages on stages.id = moved.stage_id where event is not null
      union all
      select job_id, stage_id, null, 'barrier-opened', jsonb_build_object('run', run) from opened
    )
    select (select json_agg(json_build_array(claim_id, status)) from moved) as recorded,
      (select json_agg(${batchJson(db)}) from opened as outbox join jobs on jobs.id = outbox.job_id) as batches`;
  return { recorded: new Map(row?.recorded), batches: row?.batches ?? [] };
}

/** What the record of a failed task is known by, of a row of tasks under this name: it may fail again without another attempt. */
export function failureIdentity(db: Db, row: "moved" | "tasks"): postgres.PendingQuery<postgres.Row[]> {
  const task = db(row);
  return db`'task-' || ${task}.id || '-a' || ${task}.attempt
    || case ${task}.reopened when 0 then '' else '-d' || ${task}.reopened end`;
}

/** The error of the first of a stage's tasks that failed. */
export async function findFirstError(db: Db, stageId: number): Promise<ErrorRecord | null> {
  const [task] = await db<{ error: ErrorRecord | null }[]>`
    select error from tasks where stage_id = ${stageId} and status = 'failed' order by index limit 1`;
  return task?.error ?? null;
}

/** The outcomes of a stage's tasks in the order of their indexes, a page at a time. Large results are still references. */
export async function* readOutcomes(db: Db, stageId: number): AsyncGenerator<TaskOutcome & { resultRef: string | null }> {
  const pageSize = 1000;
  for (let after = -1;;) {
    const page = await db<(TaskOutcome & { resultRef: string | null })[]>`
      select index, status, result, error, result_ref as "resultRef" from tasks
      where stage_id = ${stageId} and index > ${after} order by index limit ${pageSize}`;
    yield* page;
    const last = page.at(-1);
    if (!last || page.length < pageSize) return;
    after = last.index;
  }
}

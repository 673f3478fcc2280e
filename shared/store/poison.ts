import type { ErrorRecord } from "../errors.ts";
import type { JobStatus, StageStatus, TaskStatus } from "../status.ts";
import type { TransportName } from "../transports.ts";
import { type Db, withConflictRetry } from "./database.ts";
import { failureIdentity } from "./tasks.ts";

/** What became of a poison message, or is known about its rows (docs/poison.md). */
export const verdicts = [
  "expected",
  "recovered",
  "unhandled",
  "contradiction",
  "alive",
  "stale",
  "split",
  "orphan",
  "unreadable",
] as const;
export type Verdict = typeof verdicts[number];

/** A message found among the dead letters, as it is recorded before anything else is done about it. */
export interface PoisonFinding {
  readonly transport: TransportName;
  /** The queue it was for, by its broker's name. */
  readonly queue: string;
  readonly identity: string;
  readonly messageId: string;
  readonly reason: string;
  readonly description: string;
  readonly deliveryCount: number;
  /** The first 1,000 characters. */
  readonly bodyHead: string;
  /** In characters. */
  readonly bodySize: number;
  readonly bodyHash: string;
  /** Claim check of a body that is longer than its head. */
  readonly bodyRef: string | null;
  /** Null: the body breaks every contract, and the ids below were salvaged from it. */
  readonly kind: "start-job" | "stage" | "tasks" | null;
  readonly jobId: string | null;
  readonly stageId: number | null;
  readonly taskIds: readonly number[];
  readonly run: number | null;
}

export interface RecordedPoison {
  readonly poisonId: number;
  /** Null: nobody has judged it yet. */
  readonly verdict: Verdict | null;
}

/**
 * Records findings, in their order; one that was recorded before is found again by its broker's identity, and counted. A task that
 * failed has its record with its row: the message that says so is a sighting of that.
 */
export async function recordPoison(db: Db, findings: readonly PoisonFinding[]): Promise<readonly RecordedPoison[]> {
  const rows = JSON.stringify(findings);
  const recorded = await withConflictRetry(() =>
    db<(RecordedPoison & { position: number })[]>`
    with found as (
      select (ordinality - 1)::int as position, item.*
      from json_array_elements(${rows}::text::json) with ordinality
      cross join lateral json_to_record(value) as item(transport text, queue text, identity text, "messageId" text, reason text,
        description text, "deliveryCount" integer, "bodyHead" text, "bodySize" integer, "bodyHash" text, "bodyRef" text, kind text,
        "jobId" text, "stageId" bigint, "taskIds" bigint[], run integer)
    ), placed as (
      select found.*, coalesce(of_row.transport, found.transport) as place, coalesce(of_row.queue, found.queue) as own_queue,
        coalesce(of_row.identity, found.identity) as own_identity
      from found
      left join stages on stages.id = "stageId" and stages.job_id = "jobId" and stages.run = found.run
      left join tasks on tasks.id = "taskIds"[1] and tasks.stage_id = stages.id and tasks.status = 'failed'
        and cardinality("taskIds") = 1 and reason = 'task-failed'
      left join poison_messages as of_row on of_row.transport = found.transport and of_row.queue = stages.queue
        and of_row.identity = ${failureIdentity(db, "tasks")}
    ), recorded as (
      insert into poison_messages as known (origin, transport, queue, identity, message_id, reason, description, delivery_count,
        body_head, body_size, body_hash, body_ref, kind, job_id, stage_id, task_ids, run)
      select distinct on (place, own_queue, own_identity) 'message', place, own_queue, own_identity, "messageId", reason,
        description, "deliveryCount", "bodyHead", "bodySize", "bodyHash", "bodyRef", kind, "jobId", "stageId", "taskIds", run
      from placed order by place, own_queue, own_identity
      on conflict (transport, queue, identity) do update set sightings = known.sightings + 1, last_seen_at = now(),
        message_id = coalesce(known.message_id, excluded.message_id),
        delivery_count = coalesce(known.delivery_count, excluded.delivery_count),
        body_hash = coalesce(known.body_hash, excluded.body_hash), body_ref = coalesce(known.body_ref, excluded.body_ref),
        body_head = case when known.body_hash is null then excluded.body_head else known.body_head end,
        body_size = case when known.body_hash is null then excluded.body_size else known.body_size end
      returning id, verdict, transport, queue, identity
    )
    select id as "poisonId", verdict, position
    from placed join recorded on recorded.transport = place and recorded.queue = own_queue and recorded.identity = own_identity`
  );
  const byPosition = new Map(recorded.map(({ position, ...row }) => [position, row]));
  return findings.map(({ queue, identity }, position) => {
    const row = byPosition.get(position);
    if (!row) throw new Error(`poison message ${identity} of ${queue} was not recorded`);
    return row;
  });
}

/** What the rows say about a poison message, all read at one moment. */
export interface PoisonFacts extends RecordedPoison {
  readonly origin: "message" | "row";
  readonly transport: TransportName;
  readonly queue: string;
  readonly reason: string;
  readonly description: string;
  readonly kind: PoisonFinding["kind"];
  readonly jobId: string | null;
  readonly stageId: number | null;
  readonly run: number | null;
  /** How many the message names, whether they are there or not. */
  readonly tasksNamed: number;
  /** Of a record that was written with its task's row. */
  readonly error: ErrorRecord | null;
  readonly attempt: number | null;
  readonly correlationId: string | null;
  /** The batch that carried the message, by its id; null if that isn't one of ours. */
  readonly outboxId: number | null;
  readonly job: { readonly status: JobStatus; readonly run: number; readonly type: string; readonly poisonings: number } | null;
  readonly stage: {
    readonly status: StageStatus;
    readonly run: number;
    readonly name: string;
    readonly taskType: string;
    readonly discarded: boolean;
    readonly poisonings: number;
    /** Null: nobody plans or reduces it. */
    readonly lease: "live" | "expired" | null;
  } | null;
  /** Those that are there, of the job and the stage that the message names. */
  readonly tasks: readonly PoisonTaskFacts[];
  /** Whether the message carried the newest hint of its stage, or of the start of its job. */
  readonly isNewestHint: boolean;
}

export interface PoisonTaskFacts {
  readonly taskId: number;
  readonly status: TaskStatus;
  readonly attempt: number;
  readonly poisonings: number;
  readonly lease: "live" | "expired" | null;
  /** The batch of its newest hint, and whether that is still to be sent. */
  readonly outboxId: number;
  readonly isUnsent: boolean;
  readonly error: ErrorRecord | null;
}

/** Reads the facts about recorded messages, in the order of their ids; one that is gone has none. */
export async function readPoisonFacts(
  db: Db,
  poisonIds: readonly number[],
  { graceMs }: { graceMs: number },
): Promise<readonly PoisonFacts[]> {
  return await db<PoisonFacts[]>`
    with own as (
      select id, substring(message_id from '-o([0-9]{1,15})-n[0-9]+-[0-9]+$')::bigint as outbox_id,
        substring(message_id from '-o[0-9]+-n[0-9]+-([0-9]{1,5})$')::int as place
      from poison_messages
      where id in (select value::bigint from json_array_elements_text(${JSON.stringify(poisonIds)}::text::json))
    ), poison as ( -- where the body says nothing, the id still names the batch, and the message's place in it
      select poison_messages.id, verdict, origin, poison_messages.transport, poison_messages.queue, reason, description,
        poison_messages.kind, own.outbox_id, poison_messages.run, poison_messages.error, attempt,
        coalesce(poison_messages.job_id, sent.job_id) as job_id, coalesce(poison_messages.stage_id, sent.stage_id) as stage_id,
        case when poison_messages.task_ids = '{}' and sent.kind = 'tasks' then sent.task_ids[place * sent.tasks_per_message + 1 : (place + 1) * sent.tasks_per_message]
          else poison_messages.task_ids end
          as task_ids
      from own join poison_messages using (id)
      left join outbox as sent on poison_messages.kind is null and sent.id = own.outbox_id
    )
    select poison.id as "poisonId", verdict, origin, poison.transport, poison.queue, reason, description, poison.kind,
      poison.job_id as "jobId", poison.stage_id as "stageId", poison.run, jobs.correlation_id as "correlationId",
      poison.outbox_id as "outboxId", cardinality(task_ids) as "tasksNamed", poison.error, attempt,
      case when jobs.id is not null then json_build_object('status', jobs.status, 'run', jobs.run, 'type', job_type,
        'poisonings', jobs.poisonings) end as job,
      case when stages.id is not null then json_build_object('status', stages.status, 'run', stages.run, 'name', stages.name,
        'taskType', stages.task_type, 'discarded', discarded_at is not null, 'poisonings', stages.poisonings,
        'lease', case when owner is null then null when lease_until < now() then 'expired' else 'live' end) end as stage,
      coalesce(task.list, '[]') as tasks,
      case poison.kind
        when 'stage' then not exists (
          select from outbox where stage_id = stages.id and outbox.kind = 'stage' and outbox.run = poison.run
            and outbox.id > poison.outbox_id)
        when 'start-job' then not exists (
          select from outbox where outbox.job_id = jobs.id and outbox.kind = 'start-job' and outbox.run = poison.run
            and outbox.id > poison.outbox_id)
        else false end as "isNewestHint"
    from poison
    left join jobs on jobs.id = poison.job_id
    left join stages on stages.id = poison.stage_id and stages.job_id = poison.job_id
    left join lateral (
      select json_agg(json_build_object('taskId', tasks.id, 'status', tasks.status, 'attempt', attempt, 'poisonings', tasks.poisonings,
        'lease', case when claim_id is null then null when coalesce(runners.lease_until < now(), true)
          or claimed_at < now() - (stages.timeout_ms + ${graceMs}) * interval '1 ms' then 'expired' else 'live' end,
        'outboxId', tasks.outbox_id, 'isUnsent', coalesce(outbox.status = 'pending_queue', false), 'error', tasks.error
      ) order by tasks.id) as list
      from tasks left join runners on runners.id = tasks.runner_id left join outbox on outbox.id = tasks.outbox_id
      where tasks.id = any (poison.task_ids) and tasks.stage_id = stages.id
    ) as task on true
    order by poison.id`;
}

/** A verdict, and the group of failures that look like this one. */
export interface Judgement {
  readonly poisonId: number;
  readonly verdict: Verdict;
  readonly fingerprint: string;
  readonly code: string;
  /** Normalised: without numbers, ids and quotes. */
  readonly message: string;
  /** Where in our code it arose; null: nobody knows. */
  readonly at: string | null;
  readonly taskType: string | null;
  readonly stageName: string | null;
  /** Where the message belongs; null if nobody knows. */
  readonly jobId: string | null;
  readonly stageId: number | null;
  /** Of the one task that the message speaks of. */
  readonly attempt: number | null;
  readonly error: ErrorRecord | null;
}

/**
 * Writes verdicts, counts them in their groups, and raises the alerts that they call for. The first verdict stands: returns the ids
 * of those that this call judged. In a transaction of the caller's, or alone: what it rejects with isn't repeated here.
 */
export async function writeVerdicts(db: Db, judgements: readonly Judgement[]): Promise<readonly number[]> {
  const rows = await db<{ id: number }[]>`
    with judgement as (
      select * from json_to_recordset(${JSON.stringify(judgements)}::text::json) as judgement("poisonId" bigint, verdict text,
        fingerprint text, code text, message text, at text, "taskType" text, "stageName" text, "jobId" text,
        "stageId" bigint, attempt integer, error jsonb)
    ), held as (
      select judgement.*, poison_messages.id from poison_messages join judgement on "poisonId" = poison_messages.id
      where poison_messages.verdict is null order by poison_messages.id for update of poison_messages
    ), counted as (
      insert into poison_groups as known (fingerprint, code, message, at, task_type, stage_name, messages)
      select fingerprint, min(code), min(message), min(at), min("taskType"), min("stageName"), count(*) from held
      group by fingerprint order by fingerprint
      on conflict (fingerprint) do update set messages = known.messages + excluded.messages, last_seen_at = now(),
        regressed_at = case when known.resolved_at is null then known.regressed_at else now() end, resolved_at = null
    ), alerting as ( -- an open alert counts on; one that is being told says what it said
      insert into alerts as known (kind, fingerprint, poison_id, occurrences)
      select verdict, fingerprint, min(id), count(*) from held where verdict in ('unhandled', 'contradiction')
      group by verdict, fingerprint order by fingerprint, verdict
      on conflict (fingerprint, kind) where status = 'open' do update set occurrences = known.occurrences + excluded.occurrences,
        last_seen_at = now()
    )
    update poison_messages set verdict = held.verdict, judged_at = now(), fingerprint = held.fingerprint, attempt = held.attempt,
      error = held.error, job_id = held."jobId", stage_id = held."stageId"
    from held where poison_messages.id = held.id
    returning poison_messages.id`;
  return rows.map(({ id }) => id);
}

/** Messages that were recorded and not judged: their handler died in between, or a task failed without a message. Oldest first. */
export async function findUnjudged(db: Db, limit: number): Promise<readonly number[]> {
  const rows = await db<{ id: number }[]>`
    select id from poison_messages
    where verdict is null and (origin = 'row' or last_seen_at < now() - interval '10 s') order by id limit ${limit}`;
  return rows.map(({ id }) => id);
}

/** Marks a group as resolved: one more message of it makes it regressed. Returns whether it wasn't resolved before. */
export async function resolveGroup(db: Db, fingerprint: string): Promise<boolean> {
  const resolved = await db`
    update poison_groups set resolved_at = now() where fingerprint = ${fingerprint} and resolved_at is null`;
  return resolved.count > 0;
}

import type postgres from "postgres";
import type { ErrorRecord } from "../errors.ts";
import type { TransportName } from "../transports.ts";
import type { AlertKind, AlertStatus } from "./alerts.ts";
import type { Db } from "./database.ts";
import { type Page, pageOf } from "./listings.ts";
import type { Verdict } from "./poison.ts";

export const poisonStatuses = ["new", "redriven", "discarded"] as const;
export type PoisonStatus = typeof poisonStatuses[number];

/** A recorded message, as it was: nothing in it is redacted yet. */
export interface ListedPoison {
  readonly poison_id: number;
  readonly origin: "message" | "row";
  readonly transport: TransportName;
  readonly queue: string;
  readonly message_id: string | null;
  readonly reason: string;
  readonly description: string;
  readonly delivery_count: number | null;
  readonly kind: "start-job" | "stage" | "tasks" | null;
  readonly job_id: string | null;
  readonly stage_id: number | null;
  readonly task_ids: readonly number[];
  readonly run: number | null;
  readonly verdict: Verdict | null;
  readonly judged_at: Date | null;
  readonly attempt: number | null;
  readonly error: ErrorRecord | null;
  readonly fingerprint: string | null;
  readonly task_type: string | null;
  readonly stage_name: string | null;
  readonly status: PoisonStatus;
  readonly sightings: number;
  readonly first_seen_at: Date;
  readonly last_seen_at: Date;
  /** The first 1,000 characters. */
  readonly body_head: string;
  /** In characters. */
  readonly body_size: number;
  readonly body_hash: string | null;
  /** Claim check of a body that is longer than its head. */
  readonly body_ref: string | null;
}

function listedPoison(db: Db): postgres.PendingQuery<postgres.Row[]> {
  return db`poison_messages.id as poison_id, origin, transport, queue, message_id, reason, description, delivery_count, kind, job_id,
    stage_id, array_to_json(task_ids) as task_ids, run, verdict, judged_at, attempt, error, poison_messages.fingerprint, task_type,
    stage_name, status, sightings, poison_messages.first_seen_at, poison_messages.last_seen_at, body_head, body_size, body_hash,
    body_ref`;
}

/** Newest first. The cursor is a record's id. */
export async function listPoison(
  db: Db,
  { jobId, verdict, transport, queue, fingerprint, taskType, status, since, limit, after }: {
    readonly jobId?: string | undefined;
    readonly verdict?: Verdict | undefined;
    readonly transport?: TransportName | undefined;
    readonly queue?: string | undefined;
    readonly fingerprint?: string | undefined;
    readonly taskType?: string | undefined;
    readonly status?: PoisonStatus | undefined;
    /** First seen then or later. */
    readonly since?: Date | undefined;
    readonly limit: number;
    readonly after?: number | undefined;
  },
): Promise<Page<ListedPoison, number>> {
  const rows = await db<ListedPoison[]>`
    select ${listedPoison(db)}
    from poison_messages left join poison_groups on poison_groups.fingerprint = poison_messages.fingerprint
    where true ${jobId ? db`and job_id = ${jobId}` : db``} ${verdict ? db`and verdict = ${verdict}` : db``}
      ${transport ? db`and transport = ${transport}` : db``} ${queue ? db`and queue = ${queue}` : db``}
      ${fingerprint ? db`and poison_messages.fingerprint = ${fingerprint}` : db``}
      ${taskType ? db`and task_type = ${taskType}` : db``} ${status ? db`and status = ${status}` : db``}
      ${since ? db`and poison_messages.first_seen_at >= ${since}` : db``} ${after ? db`and poison_messages.id < ${after}` : db``}
    order by poison_messages.id desc limit ${limit + 1}`;
  return pageOf(rows.map((row) => ({ row, cursor: row.poison_id })), limit);
}

export async function findPoison(db: Db, poisonId: number): Promise<ListedPoison | null> {
  const [row] = await db<ListedPoison[]>`
    select ${listedPoison(db)}
    from poison_messages left join poison_groups on poison_groups.fingerprint = poison_messages.fingerprint
    where poison_messages.id = ${poisonId}`;
  return row ?? null;
}

/** The poison messages of a job by verdict; `unjudged` for those without. */
export async function countPoisonOfJob(db: Db, jobId: string): Promise<Readonly<Record<string, number>>> {
  const rows = await db<{ verdict: string; count: number }[]>`
    select coalesce(verdict, 'unjudged') as verdict, count(*)::int as count from poison_messages where job_id = ${jobId}
    group by 1 order by 1`;
  return Object.fromEntries(rows.map(({ verdict, count }) => [verdict, count]));
}

export const groupStates = ["new", "regressed", "ongoing", "resolved"] as const;
export type GroupState = typeof groupStates[number];

/** Failures that look alike, with what the rows tell about them. */
export interface ListedGroup {
  readonly fingerprint: string;
  readonly code: string;
  readonly message: string;
  readonly at: string | null;
  readonly task_type: string | null;
  readonly stage_name: string | null;
  readonly messages: number;
  readonly first_seen_at: Date;
  readonly last_seen_at: Date;
  readonly resolved_at: Date | null;
  readonly regressed_at: Date | null;
  readonly state: GroupState;
  readonly last_hour: number;
  readonly hour_before: number;
  /** Of its newest 200 messages. */
  readonly verdicts: Readonly<Record<string, number>>;
  /** Tasks of these messages that were claimed again later; those of them that completed then, and those that failed. */
  readonly tried_again: number;
  readonly succeeded_later: number;
  readonly failed_again: number;
}

export interface GroupCursor {
  /** Microseconds since 1970. */
  readonly lastSeenAtUs: number;
  readonly fingerprint: string;
}

/** What is asked about each of `found`, a query of groups. */
export function describedGroups(db: Db, found: postgres.PendingQuery<postgres.Row[]>): postgres.PendingQuery<postgres.Row[]> {
  return db`
    with found as materialized (${found})
    select fingerprint, code, message, at, task_type, stage_name, messages, found.first_seen_at, found.last_seen_at, resolved_at,
      regressed_at,
      case when resolved_at is not null then 'resolved' when regressed_at is not null then 'regressed'
        when found.first_seen_at > now() - interval '1 day' then 'new' else 'ongoing' end as state,
      (extract(epoch from found.last_seen_at) * 1000000)::bigint as last_seen_at_us,
      trend.last_hour, trend.hour_before, coalesce(evidence.verdicts, '{}') as verdicts, evidence.tried_again,
      evidence.succeeded_later, evidence.failed_again
    from found
    cross join lateral (
      select count(*) filter (where first_seen_at > now() - interval '1 hour')::int as last_hour,
        count(*) filter (where first_seen_at <= now() - interval '1 hour')::int as hour_before
      from poison_messages
      where poison_messages.fingerprint = found.fingerprint and first_seen_at > now() - interval '2 hours'
    ) as trend
    cross join lateral (
      with newest as materialized (
        select id, verdict, task_ids, attempt, first_seen_at from poison_messages
        where poison_messages.fingerprint = found.fingerprint order by first_seen_at desc, id desc limit 200
      ), again as ( -- one row a task, however often it died
        select distinct on (tasks.id) tasks.status from newest join tasks on tasks.id = task_ids[1]
        where cardinality(task_ids) = 1 and tasks.attempt > newest.attempt order by tasks.id
      )
      select (select json_object_agg(verdict, number) from (
          select verdict, count(*) as number from newest where verdict is not null group by verdict) as counted) as verdicts,
        (select count(*)::int from again) as tried_again,
        (select count(*)::int from again where status = 'completed') as succeeded_later,
        (select count(*)::int from again where status = 'failed') as failed_again
    ) as evidence`;
}

/** Those that were seen last come first. */
export async function listGroups(
  db: Db,
  { state, code, taskType, since, limit, after }: {
    readonly state?: GroupState | undefined;
    readonly code?: string | undefined;
    readonly taskType?: string | undefined;
    /** Seen then or later. */
    readonly since?: Date | undefined;
    readonly limit: number;
    readonly after?: GroupCursor | undefined;
  },
): Promise<Page<ListedGroup, GroupCursor>> {
  const afterTime = after && db`timestamptz 'epoch' + ${after.lastSeenAtUs} * interval '1 microsecond'`;
  const states = {
    resolved: db`and resolved_at is not null`,
    regressed: db`and resolved_at is null and regressed_at is not null`,
    new: db`and resolved_at is null and regressed_at is null and first_seen_at > now() - interval '1 day'`,
    ongoing: db`and resolved_at is null and regressed_at is null and first_seen_at <= now() - interval '1 day'`,
  };
  const rows = await db<(ListedGroup & { last_seen_at_us: number })[]>`
    ${
    describedGroups(
      db,
      db`
      select * from poison_groups
      where true ${state ? states[state] : db``} ${code ? db`and code = ${code}` : db``}
        ${taskType ? db`and task_type = ${taskType}` : db``} ${since ? db`and last_seen_at >= ${since}` : db``}
        ${
        after && afterTime
          ? db`and last_seen_at <= ${afterTime} and (last_seen_at < ${afterTime} or fingerprint > ${after.fingerprint})`
          : db``
      }
      order by last_seen_at desc, fingerprint limit ${limit + 1}`,
    )
  }
    order by found.last_seen_at desc, fingerprint`;
  return pageOf(
    rows.map(({ last_seen_at_us, ...row }) => ({
      row,
      cursor: { lastSeenAtUs: last_seen_at_us, fingerprint: row.fingerprint },
    })),
    limit,
  );
}

export async function findGroup(db: Db, fingerprint: string): Promise<ListedGroup | null> {
  const [row] = await db<(ListedGroup & { last_seen_at_us: number })[]>`
    ${describedGroups(db, db`select * from poison_groups where fingerprint = ${fingerprint}`)}`;
  if (!row) return null;
  const { last_seen_at_us: _, ...group } = row;
  return group;
}

export interface ListedAlert {
  readonly alert_id: number;
  readonly kind: AlertKind;
  readonly fingerprint: string;
  readonly code: string;
  readonly status: AlertStatus;
  readonly occurrences: number;
  readonly attempts: number;
  readonly last_error: string | null;
  readonly poison_id: number | null;
  readonly created_at: Date;
  readonly last_seen_at: Date;
  readonly told_at: Date | null;
  readonly due_at: Date | null;
  readonly ended_at: Date | null;
}

/** Newest first. The cursor is an alert's id. */
export async function listAlerts(
  db: Db,
  { status, kind, fingerprint, limit, after }: {
    readonly status?: AlertStatus | undefined;
    readonly kind?: AlertKind | undefined;
    readonly fingerprint?: string | undefined;
    readonly limit: number;
    readonly after?: number | undefined;
  },
): Promise<Page<ListedAlert, number>> {
  const rows = await db<ListedAlert[]>`
    select id as alert_id, kind, fingerprint, code, status, occurrences, attempts, last_error, poison_id, created_at,
      alerts.last_seen_at, told_at, case when status in ('open', 'sending') then due_at end as due_at, ended_at
    from alerts join poison_groups using (fingerprint)
    where true ${status ? db`and status = ${status}` : db``} ${kind ? db`and kind = ${kind}` : db``}
      ${fingerprint ? db`and fingerprint = ${fingerprint}` : db``} ${after ? db`and id < ${after}` : db``}
    order by id desc limit ${limit + 1}`;
  return pageOf(rows.map((row) => ({ row, cursor: row.alert_id })), limit);
}

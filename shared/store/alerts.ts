import type { Db } from "./database.ts";

export const alertKinds = ["unhandled", "contradiction", "rate-jump"] as const;
export type AlertKind = typeof alertKinds[number];

export const alertStatuses = ["open", "sending", "sent", "logged", "dead"] as const;
export type AlertStatus = typeof alertStatuses[number];

/** An alert that is to be told now, and will say the same at each attempt. */
export interface Alert {
  readonly alertId: number;
  readonly kind: AlertKind;
  readonly fingerprint: string;
  readonly code: string;
  readonly taskType: string | null;
  readonly stageName: string | null;
  /** How often it happened since the last alert of this kind about this group; of a jump, in its ten minutes. */
  readonly occurrences: number;
  /** The first of the messages that it is about, and its job. */
  readonly poisonId: number | null;
  readonly jobId: string | null;
  readonly createdAt: Date;
  readonly toldAt: Date;
  /** This attempt, from 1 on: the fence of what it writes. */
  readonly attempt: number;
}

/**
 * Claims alerts for one attempt each, which has `leaseMs`: those that are due again, and open ones, unless another of their kind and
 * group was told within `quietMs`. An open one stops counting; what happens from then on opens another.
 */
export async function claimAlerts(
  db: Db,
  { quietMs, leaseMs, limit }: { readonly quietMs: number; readonly leaseMs: number; readonly limit: number },
): Promise<readonly Alert[]> {
  return await db<Alert[]>`
    with due as (
      select id from alerts
      where status in ('open', 'sending') and due_at <= now() and (status = 'sending' or not exists (
        select from alerts as told where told.fingerprint = alerts.fingerprint and told.kind = alerts.kind
          and told.told_at > now() - ${quietMs} * interval '1 ms'))
      order by due_at, id limit ${limit} for update skip locked
    ), claimed as (
      update alerts set status = 'sending', attempts = attempts + 1, told_at = coalesce(told_at, now()),
        due_at = now() + ${leaseMs} * interval '1 ms'
      from due where alerts.id = due.id
      returning alerts.*
    )
    select claimed.id as "alertId", claimed.kind, claimed.fingerprint, code, task_type as "taskType", stage_name as "stageName",
      occurrences, poison_id as "poisonId", job_id as "jobId", created_at as "createdAt", told_at as "toldAt", attempts as attempt
    from claimed join poison_groups using (fingerprint) left join poison_messages on poison_messages.id = poison_id
    order by claimed.id`;
}

/** How an attempt ended. A failed one is due again after `retryMs`; null: it was the last. */
export type AlertEnd =
  | { readonly outcome: "sent" | "logged" }
  | { readonly outcome: "failed"; readonly error: string; readonly retryMs: number | null };

/** Records how an attempt ended; nothing, if another attempt has begun since. */
export async function endAlertAttempt(db: Db, { alertId, attempt }: Alert, end: AlertEnd): Promise<void> {
  const failed = end.outcome === "failed";
  const status = !failed ? end.outcome : end.retryMs === null ? "dead" : "sending";
  await db`
    update alerts set status = ${status}, last_error = ${failed ? end.error : null},
      due_at = now() + ${failed ? end.retryMs ?? 0 : 0} * interval '1 ms', ended_at = case when ${
    status !== "sending"
  } then now() end
    where id = ${alertId} and status = 'sending' and attempts = ${attempt}`;
}

/**
 * Raises an alert for each group whose rate has jumped: at least 10 messages in the last ten minutes, and at least five times the
 * mean of ten minutes in the day before (since the group is known, if that is shorter; at least an hour). Quiet about a group that
 * was told, or is to be, within `quietMs`. Returns how many it raised.
 */
export async function raiseRateJumps(db: Db, { quietMs }: { readonly quietMs: number }): Promise<number> {
  const raised = await db`
    insert into alerts (kind, fingerprint, poison_id, occurrences)
    select 'rate-jump', fingerprint, recent.first_id, recent.messages
    from poison_groups
    cross join lateral (
      select count(*) as messages, min(id) as first_id from poison_messages
      where poison_messages.fingerprint = poison_groups.fingerprint and poison_messages.first_seen_at > now() - interval '10 min'
    ) as recent
    cross join lateral (
      select least(144, greatest(6, extract(epoch from now() - poison_groups.first_seen_at) / 600 - 1)) as tens
    ) as span
    where last_seen_at > now() - interval '10 min' and recent.messages >= 10
      and not exists (
        select from alerts where alerts.fingerprint = poison_groups.fingerprint and kind = 'rate-jump'
          and (status = 'open' or told_at > now() - ${quietMs} * interval '1 ms'))
      and recent.messages * span.tens >= 5 * (
        select count(*) from ( -- no more than it takes to decide
          select from poison_messages
          where poison_messages.fingerprint = poison_groups.fingerprint
            and poison_messages.first_seen_at > now() - interval '1 day 10 min'
            and poison_messages.first_seen_at <= now() - interval '10 min'
          limit ceil(recent.messages * span.tens / 5) + 1
        ) as before)
    on conflict (fingerprint, kind) where status = 'open' do nothing`;
  return raised.count;
}

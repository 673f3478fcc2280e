import { type Db, type Sql, withConflictRetry } from "./database.ts";

/**
 * Notes the outcome of items whose task has ended since they were opened, or whose job has. A task that was opened again since
 * counts as failed again. Costs the task nothing: its row is asked. Returns how many; at most `limit`.
 */
export async function settleItems(sql: Sql, redriveId: number, limit: number): Promise<number> {
  return await withConflictRetry(() =>
    sql.begin(async (tx) => {
      const rows = await tx<{ status: string; poisonId: number | null; fingerprint: string | null }[]>`
        with ended as (
          select item.id, item.poison_id, case
            when item.kind = 'job' then case
              when jobs.id is null or jobs.run > item.job_run then 'failed-again'
              when jobs.status = 'cancelled' then 'cancelled'
              when jobs.status = 'failed' then 'failed-again'
              else 'succeeded'
            end
            when tasks.id is null then 'skipped'
            when tasks.reopened = item.reopened then 'skipped' -- its job ended before it was opened
            when tasks.reopened > item.reopened + 1 or tasks.status = 'failed' then 'failed-again'
            when tasks.status = 'cancelled' then 'cancelled'
            else 'succeeded'
          end as outcome
          from redrive_items as item left join tasks on tasks.id = item.task_id left join jobs on jobs.id = item.job_id
          where item.redrive_id = ${redriveId} and item.status = 'opened' and case
            when item.kind = 'job' then jobs.id is null or jobs.run > item.job_run or jobs.ended_at is not null
            else tasks.id is null or tasks.reopened > item.reopened + 1
              or tasks.reopened = item.reopened + 1 and tasks.status in ('completed', 'failed', 'cancelled')
              or tasks.reopened = item.reopened and (jobs.id is null or jobs.run > item.job_run or jobs.ended_at is not null)
          end
          order by item.id limit ${limit} for update of item skip locked
        )
        update redrive_items set status = outcome, settled_at = now(), reason = case when outcome = 'skipped' then 'job-ended' end
        from ended left join poison_messages on poison_messages.id = ended.poison_id
        where redrive_items.id = ended.id
        returning redrive_items.status, redrive_items.poison_id as "poisonId", poison_messages.fingerprint`;
      // What was not opened after all may be redriven another time.
      const skipped = rows.flatMap(({ status, poisonId }) => status === "skipped" ? poisonId ?? [] : []);
      if (skipped.length > 0) {
        await tx`
          update poison_messages set status = 'new', status_at = now()
          where status = 'redriven' and id in (select value::bigint from json_array_elements_text(${
          JSON.stringify(skipped)
        }::text::json))`;
      }
      await resolveGroups(tx, rows.flatMap(({ fingerprint }) => fingerprint ?? []));
      return rows.length;
    })
  );
}

/**
 * Marks groups as resolved of whose failures none is left to be dealt with: each was discarded, or what it speaks of has
 * succeeded since. One that comes again marks its group as regressed.
 */
export async function resolveGroups(tx: Db, fingerprints: readonly string[]): Promise<void> {
  if (fingerprints.length === 0) return;
  const wanted = JSON.stringify([...new Set(fingerprints)].sort());
  await tx`
    update poison_groups set resolved_at = now()
    where fingerprint in (select value from json_array_elements_text(${wanted}::text::json)) and resolved_at is null
      and not exists (
        select from poison_messages where poison_messages.fingerprint = poison_groups.fingerprint and status <> 'discarded'
          and verdict in ('expected', 'unhandled', 'orphan', 'unreadable')
          and not exists (select from tasks where cardinality(task_ids) = 1 and tasks.id = task_ids[1] and tasks.status = 'completed')
          and not exists (select from redrive_items where poison_id = poison_messages.id and redrive_items.status = 'succeeded'))`;
}

export interface Progress {
  readonly waiting: number;
  readonly opened: number;
  readonly succeeded: number;
  readonly failedAgain: number;
  readonly cancelled: number;
}

export async function readProgress(db: Db, redriveId: number): Promise<Progress> {
  const [row] = await db<Progress[]>`
    select count(*) filter (where status = 'waiting')::int as waiting, count(*) filter (where status = 'opened')::int as opened,
      count(*) filter (where status = 'succeeded')::int as succeeded,
      count(*) filter (where status = 'failed-again')::int as "failedAgain",
      count(*) filter (where status = 'cancelled')::int as cancelled
    from redrive_items where redrive_id = ${redriveId}`;
  if (!row) throw new Error(`the items of redrive ${redriveId} can't be counted`);
  return row;
}

/** A redrive that has something to open, or outcomes to come; or, `selecting`, whose items are not all there yet. */
export interface ActiveRedrive {
  readonly redriveId: number;
  readonly status: "running" | "stopped" | "selecting";
  readonly canary: number;
  readonly maxFailureShare: number;
}

export async function findActiveRedrives(db: Db): Promise<readonly ActiveRedrive[]> {
  return await db<ActiveRedrive[]>`
    select id as "redriveId", status, canary, max_failure_share as "maxFailureShare" from redrives
    where status in ('running', 'stopped') and ended_at is null
      or status = 'selecting'
    order by id`;
}

/** Ends a redrive of which every outcome is known. */
export async function endRedrive(sql: Sql, redriveId: number): Promise<boolean> {
  const ended = await withConflictRetry(() =>
    sql`
    with ended as (
      update redrives set status = case status when 'running' then 'completed' else status end, ended_at = now()
      where id = ${redriveId} and status in ('running', 'stopped') and ended_at is null
        and not exists (select from redrive_items where redrive_id = redrives.id and status = 'opened')
        and (redrives.status = 'stopped' or not exists (
          select from redrive_items where redrive_id = redrives.id and status = 'waiting'))
      returning id, status
    )
    insert into events (kind, details)
    select 'redrive-ended', jsonb_build_object('redrive', id, 'status', status, 'outcomes', (
      select jsonb_object_agg(status, n) from (
        select status, count(*) as n from redrive_items where redrive_id = ended.id group by status) as counted))
    from ended`
  );
  return ended.count === 1;
}

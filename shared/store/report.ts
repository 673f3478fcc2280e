import type { FindingKind, ReconciliationFinding } from "../contracts/reconciliation.ts";
import type { Difference } from "../contracts/report.ts";
import type { JobStatus } from "../status.ts";
import type { TransportName } from "../transports.ts";
import type { Db } from "./database.ts";
import type { Page } from "./listings.ts";
import { describedGroups, type ListedGroup } from "./poison-listings.ts";
import { listReconciliationFindings } from "./reconciliation.ts";

/** A finding, against the run before; null where there is none. */
export type ComparedFinding = ReconciliationFinding & { readonly difference: Difference | null };

/** Findings of a run in the order they were found. The cursor is a finding's id. */
export async function listComparedFindings(
  db: Db,
  run: { readonly run_id: number; readonly previous_run: number | null },
  page: { readonly kind?: FindingKind | undefined; readonly limit: number; readonly after?: number | undefined },
): Promise<Page<ComparedFinding, number>> {
  const { rows, next } = await listReconciliationFindings(db, run.run_id, page);
  if (run.previous_run === null) return { rows: rows.map((row) => ({ ...row, difference: null })), next };
  const appeared = new Set(
    (await db<{ id: number }[]>`
      select id from reconciliation_findings as found
      where run_id = ${run.run_id} and id >= ${rows[0]?.finding_id ?? 0} and id <= ${
      rows.at(-1)?.finding_id ?? 0
    } and not exists (
        select from reconciliation_findings as before
        where before.run_id = ${run.previous_run} and before.kind = found.kind and before.subject_type = found.subject_type
          and before.subject_id = found.subject_id)`).map(({ id }) => id),
  );
  return { rows: rows.map((row) => ({ ...row, difference: appeared.has(row.finding_id) ? "new" : "still" })), next };
}

/** Findings of the run before that this one has not, in the order they were found; at most `limit`. */
export async function listGoneFindings(
  db: Db,
  { run_id, previous_run }: { readonly run_id: number; readonly previous_run: number | null },
  limit: number,
): Promise<readonly ComparedFinding[]> {
  if (previous_run === null) return [];
  const gone = await db<{ id: number }[]>`
    select id from reconciliation_findings as before
    where run_id = ${previous_run} and not exists (
      select from reconciliation_findings as found
      where found.run_id = ${run_id} and found.kind = before.kind and found.subject_type = before.subject_type
        and found.subject_id = before.subject_id)
    order by id limit ${limit}`;
  const ids = new Set(gone.map(({ id }) => id));
  const last = gone.at(-1)?.id ?? 0;
  const rows: ComparedFinding[] = [];
  for (let after = 0; rows.length < ids.size;) {
    const page = await listReconciliationFindings(db, previous_run, { limit: 1_000, after });
    for (const row of page.rows) if (ids.has(row.finding_id)) rows.push({ ...row, difference: "gone" });
    if (page.next === null || page.next >= last) break;
    after = page.next;
  }
  return rows;
}

/** A day of poison messages, up to and with this moment. */
export interface Window {
  readonly until: Date;
}

/** The groups with the most messages in the window, and how many these are. */
export async function listTopGroups(
  db: Db,
  { until }: Window,
  limit: number,
): Promise<readonly (ListedGroup & { readonly messages_in_window: number })[]> {
  const counts = await db<{ fingerprint: string; messages: number }[]>`
    select fingerprint, count(*)::int as messages from poison_messages
    where fingerprint is not null and first_seen_at > ${until}::timestamptz - interval '1 day' and first_seen_at <= ${until}
    group by fingerprint order by count(*) desc, fingerprint limit ${limit}`;
  if (counts.length === 0) return [];
  const groups = await db<(ListedGroup & { last_seen_at_us: number })[]>`
    ${
    describedGroups(db, db`select * from poison_groups where fingerprint in ${db(counts.map(({ fingerprint }) => fingerprint))}`)
  }`;
  return counts.flatMap(({ fingerprint, messages }) => {
    const { last_seen_at_us: _, ...group } = groups.find((row) => row.fingerprint === fingerprint) ?? {};
    return "code" in group ? [{ ...group as ListedGroup, messages_in_window: messages }] : [];
  });
}

/** A job that did not come to its end, and whose messages died. */
export interface BlockedJob {
  readonly job_id: string;
  readonly job_type: string;
  readonly status: JobStatus;
  readonly transport: TransportName;
  readonly stage: number;
  readonly total_stages: number;
  readonly failed_tasks: number;
  /** Of the stage it is at. */
  readonly open_tasks: number;
  readonly messages: number;
  /** The group that most of its messages are in. */
  readonly fingerprint: string;
}

/** Jobs that failed or go on, with messages that died in the window and were not dealt with; those with the most come first. */
export async function listBlockedJobs(
  db: Db,
  { until }: Window,
  limit: number,
): Promise<{ readonly total: number; readonly jobs: readonly BlockedJob[] }> {
  const rows = await db<(BlockedJob & { total: number })[]>`
    with died as (
      select job_id, fingerprint, count(*) as messages from poison_messages
      where verdict in ('expected', 'unhandled') and status = 'new' and job_id is not null
        and first_seen_at > ${until}::timestamptz - interval '1 day' and first_seen_at <= ${until}
      group by job_id, fingerprint
    ), blocked as (
      select jobs.*, sum(messages)::int as messages, (array_agg(fingerprint order by messages desc, fingerprint))[1] as fingerprint
      from died join jobs on jobs.id = job_id
      where jobs.status in ('queued', 'processing', 'stopping', 'failed')
      group by jobs.id
    )
    select blocked.id as job_id, job_type, status, processing_path as transport, current_stage as stage, total_stages, messages,
      fingerprint, counts.failed as failed_tasks, counts.open as open_tasks, (select count(*)::int from blocked) as total
    from blocked cross join lateral (
      select coalesce(sum(failed), 0)::int as failed,
        coalesce(sum(planned - completed - failed - cancelled) filter (where number = current_stage), 0)::int as open
      from stages where job_id = blocked.id and discarded_at is null
    ) as counts
    order by messages desc, blocked.id limit ${limit}`;
  return { total: rows[0]?.total ?? 0, jobs: rows.map(({ total: _, ...job }) => job) };
}

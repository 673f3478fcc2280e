import type { TransportName } from "../transports.ts";
import { type Db, type Sql, withConflictRetry } from "./database.ts";

/** Jobs moved in one transaction. */
const sliceSize = 100;

export interface Rehomed {
  readonly jobs: number;
  /** Batches that are to be sent on the new transport, because they never were or because the old broker keeps them. */
  readonly batches: number;
}

/**
 * Moves jobs that have not ended to another transport: what is not sent yet will be sent there, and the hints of what is open are
 * sent there once more, under a new number of sending. Attempts that run go on. What the old broker still holds, and may deliver
 * one day, is a second hint like any other.
 */
export async function rehomeJobs(
  sql: Sql,
  { from, to, jobId }: { readonly from: TransportName; readonly to: TransportName; readonly jobId?: string | undefined },
): Promise<Rehomed> {
  let jobs = 0;
  let batches = 0;
  for (let moved = sliceSize; moved === sliceSize; jobs += moved) {
    const slice = await withConflictRetry(() =>
      sql.begin(async (tx) => {
        // The job's row first (protocol, rule 24): whatever writes to the outbox later reads the new transport from it.
        const rows = await tx<{ id: string }[]>`
          with held as (
            select id from jobs
            where processing_path = ${from} and status in ('queued', 'processing', 'stopping')
              and ${jobId === undefined ? tx`true` : tx`id = ${jobId}`}
            order by id limit ${sliceSize} for update
          ), noted as (
            insert into events (job_id, kind, details)
            select id, 'job-rehomed', jsonb_build_object('from', ${from}::text, 'to', ${to}::text) from held
          )
          update jobs set processing_path = ${to}, rehomed_at = now(), updated_at = now() from held where jobs.id = held.id
          returning jobs.id`;
        const ids = JSON.stringify(rows.map(({ id }) => id));
        const resent = await tx`
          with moved as (
            select value as job_id from json_array_elements_text(${ids}::text::json)
          ), wanted as (
            select outbox.id from outbox join moved using (job_id)
            where outbox.status = 'pending_queue'
              or kind = 'start-job' and exists (select from jobs where jobs.id = outbox.job_id and jobs.status = 'queued')
              or kind = 'stage' and exists (
                select from stages where stages.id = outbox.stage_id and stages.run = outbox.run
                  and stages.status in ('planning', 'reducing') and discarded_at is null)
              or kind = 'tasks' and exists (
                select from stages join tasks on tasks.stage_id = stages.id
                where stages.id = outbox.stage_id and stages.status in ('planning', 'open') and tasks.outbox_id = outbox.id
                  and tasks.id = any (outbox.task_ids) and tasks.status = 'pending')
            order by outbox.id for update of outbox
          )
          update outbox set transport = ${to}, status = 'pending_queue', sent_at = null, locked_by = null, locked_until = null,
            not_before = case when status = 'queued' then now() else not_before end
          from wanted where outbox.id = wanted.id`;
        return { jobs: rows.length, batches: resent.count };
      })
    );
    moved = slice.jobs;
    batches += slice.batches;
  }
  return { jobs, batches };
}

/**
 * Moves batches that were written for the old transport by statements which had begun before their job was rehomed; none of
 * these lasts longer than a minute. Returns how many.
 */
export async function moveStrayBatches(db: Db): Promise<number> {
  const moved = await withConflictRetry(() =>
    db`
    update outbox set transport = processing_path, locked_by = null, locked_until = null
    from (
      select outbox.id, processing_path from jobs join outbox on outbox.job_id = jobs.id
      where rehomed_at > now() - interval '5 minutes' and outbox.status = 'pending_queue' and transport <> processing_path
      order by outbox.id for update of outbox
    ) as stray
    where outbox.id = stray.id`
  );
  return moved.count;
}

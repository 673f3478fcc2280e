import type { Db } from "./database.ts";

export interface JobRetry {
  readonly jobId: string;
  /** The run that the operator was looking at: another one, or one that has not ended, changes nothing (protocol, rule 23). */
  readonly run: number;
  /** The number of the stage it starts from; later ones are discarded when it starts. Null: it has no stage yet. */
  readonly resumeFrom: number | null;
  /** Of the failed tasks of that stage, only those are opened whose `retry_run` is the new run. */
  readonly selected: boolean;
  readonly by: string;
}

/**
 * An operator's retry of an ended job, in a transaction of the caller's: it is queued in its next run, and hinted. The start of
 * that run opens its tasks, so that no barrier opens in a queued job. Returns the new run, or null if nothing was changed.
 */
export async function retryJob(tx: Db, { jobId, run, resumeFrom, selected, by }: JobRetry): Promise<number | null> {
  const [job] = await tx<{ run: number }[]>`
    with retried as (
      update jobs set status = 'queued', run = run + 1, resume_from = ${resumeFrom}, resume_selected = ${selected}, result = null,
        error = null, ended_at = null, start_sends = 1, poisonings = 0, deferrals = 0, updated_at = now()
      where id = ${jobId} and run = ${run} and status in ('completed', 'completed_with_errors', 'failed', 'cancelled')
      returning *
    ), hint as (
      insert into outbox (batch_id, job_id, transport, queue, kind, run)
      select id || '-r' || run || '-start', id, processing_path, 'jobs', 'start-job', run from retried
      on conflict (batch_id) do nothing
    ), noted as (
      insert into events (job_id, kind, details)
      select id, 'job-retried', jsonb_build_object('run', run, 'from_stage', resume_from, 'by', ${by}::text) from retried
    )
    select run from retried`;
  return job?.run ?? null;
}

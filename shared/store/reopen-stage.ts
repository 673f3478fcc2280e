import type { Db } from "./database.ts";
import { type ClaimedStage, claimedStage, hintOpenTasks, openBarrier, stageLeaseMs } from "./stages.ts";

/**
 * Opens a stage of a job again that starts anew from it, in a transaction of the caller's that holds the job's row: its failed
 * tasks (those alone that are marked for this run of the job, if `selected`) and its cancelled ones are pending, with budgets as
 * new, and hinted; later stages are discarded and kept as history (protocol, rules 11 and 23). With nothing open its barrier opens.
 * A stage whose planning was cut short is returned, owned by `owner`: it is to be planned further.
 */
export async function reopenStage(
  tx: Db,
  owner: string,
  { jobId, jobRun, number, run, selected }: {
    readonly jobId: string;
    readonly jobRun: number;
    readonly number: number;
    /** Its new run. */
    readonly run: number;
    readonly selected: boolean;
  },
): Promise<ClaimedStage | null> {
  const [found] = await tx<{ id: number }[]>`
    select id from stages where job_id = ${jobId} and number = ${number} and discarded_at is null`;
  if (!found) throw new Error(`job ${jobId} is to start from stage ${number}, which it doesn't have`);
  // Tasks before the stage, as everywhere (protocol, rule 24); their old status is read under the lock (rule 26).
  const [reset] = await tx<{ failed: number; cancelled: number }[]>`
    with held as (
      select id, status from tasks
      where stage_id = ${found.id}
        and (status = 'cancelled' or status = 'failed' and (not ${selected}::boolean or retry_run = ${jobRun}))
      order by id for update
    ), moved as (
      update tasks set status = 'pending', failures = 0, interruptions = 0, deferrals = 0, resends = 0, poisonings = 0,
        not_before = case when retry_run = ${jobRun} then not_before end, ended_at = null, reopened = reopened + 1, retry_run = null
      from held where tasks.id = held.id
    )
    select count(*) filter (where status = 'failed')::int as failed, count(*) filter (where status = 'cancelled')::int as cancelled
    from held`;
  const { failed = 0, cancelled = 0 } = reset ?? {};
  const [stage] = await tx<(Omit<ClaimedStage, "status"> & { status: string })[]>`
    update stages set status = case when sealed then 'open' else 'planning' end, run = ${run}, failed = failed - ${failed},
      cancelled = cancelled - ${cancelled}, failures = 0, interruptions = 0, retries = 0, poisonings = 0, deferrals = 0, not_before = null,
      result = null, error = null, reducing_at = null, ended_at = null, hinted_at = now(),
      deadline_at = now() + deadline_ms * interval '1 ms',
      owner = case when sealed then null else ${owner} end,
      lease_until = case when sealed then null else now() + ${stageLeaseMs} * interval '1 ms' end
    where id = ${found.id}
    returning ${claimedStage(tx)}`;
  if (!stage) throw new Error(`stage ${found.id} was deleted while it was opened again`);
  const discarded = await tx`
    update stages set discarded_at = now() where job_id = ${jobId} and number > ${number} and discarded_at is null`;
  await tx`
    insert into events (job_id, stage_id, kind, details)
    values (${jobId}, ${found.id}, 'stage-reopened', ${
    tx.json({ run, failed, cancelled, discarded_stages: discarded.count, status: stage.status })
  })`;
  await hintOpenTasks(tx, found.id);
  await openBarrier(tx, owner, found.id);
  return stage.status === "planning" ? { ...stage, status: "planning" } : null;
}

import type { ErrorRecord } from "../errors.ts";
import { type Db, type Sql, withConflictRetry } from "./database.ts";
import { startHint, stopJobWithin } from "./jobs.ts";
import { type Judgement, writeVerdicts } from "./poison.ts";
import { stageHint } from "./stages.ts";
import { failPoisonedTask } from "./tasks.ts";

/** Times that the newest hint of a waiting row may end as poison before the row has failed. */
export const maxPoisonings = 3;

/** What a verdict calls for. `counted`: the message was the row's newest hint, so it counts towards the row's bound. */
export type PoisonAction =
  | {
    readonly act: "resend-tasks";
    readonly stageId: number;
    /** Null: the message doesn't say, and hints of whatever run is current. */
    readonly run: number | null;
    /** Each with the batch that carries its newest hint: another one since then means that the message is old. */
    readonly tasks: readonly { readonly taskId: number; readonly outboxId: number }[];
    readonly counted: boolean;
  }
  | { readonly act: "fail-task"; readonly taskId: number; readonly outboxId: number; readonly error: ErrorRecord }
  | { readonly act: "resend-stage"; readonly stageId: number; readonly run: number; readonly counted: boolean }
  | { readonly act: "resend-start"; readonly jobId: string; readonly run: number; readonly counted: boolean }
  | {
    readonly act: "fail-job";
    readonly jobId: string;
    readonly run: number;
    /** The stage that waits for somebody to plan or reduce it; null: the job waits to be started. */
    readonly stage: { readonly stageId: number; readonly run: number } | null;
    readonly error: ErrorRecord;
  };

/** `moved`: the rows aren't as they were read any more, nothing was changed. `judged`: somebody else was faster. */
export type Acted = "done" | "moved" | "judged";

/**
 * Does what a verdict calls for and writes the verdict, in one transaction that holds the record, so that a message that comes
 * twice is acted on once. Every guard is repeated in its statement.
 */
export async function actOnPoison(sql: Sql, sender: string, judgement: Judgement, action: PoisonAction): Promise<Acted> {
  return await withConflictRetry(() =>
    sql.begin(async (tx): Promise<Acted> => {
      const held = await tx`select from poison_messages where id = ${judgement.poisonId} and verdict is null for update`;
      if (held.count === 0) return "judged";
      if (!await act(tx, sender, action)) return "moved";
      await writeVerdicts(tx, [judgement]);
      return "done";
    })
  );
}

async function act(tx: Db, sender: string, action: PoisonAction): Promise<boolean> {
  switch (action.act) {
    case "resend-tasks":
      return await resendTasks(tx, action);
    case "fail-task": {
      const { recorded } = await failPoisonedTask(tx, sender, action);
      return recorded.size === 1;
    }
    case "resend-stage": {
      const { stageId, run, counted } = action;
      const hinted = await tx`
        with waiting as (
          update stages set sends = sends + 1, hinted_at = now(), poisonings = stages.poisonings + ${Number(counted)}
          from jobs
          where stages.id = ${stageId} and stages.run = ${run} and stages.status in ('planning', 'reducing') and owner is null
            and discarded_at is null and jobs.id = job_id and jobs.status = 'processing'
          returning stages.*
        )
        ${stageHint(tx, tx`waiting`)}`;
      return hinted.count === 1;
    }
    case "resend-start": {
      const { jobId, run, counted } = action;
      const hinted = await tx`
        with waiting as (
          update jobs set start_sends = start_sends + 1, updated_at = now(), poisonings = poisonings + ${Number(counted)}
          where id = ${jobId} and run = ${run} and status = 'queued'
          returning *
        )
        ${startHint(tx, tx`waiting`)}`;
      return hinted.count === 1;
    }
    case "fail-job": {
      const { jobId, run, stage, error } = action;
      const status = stage ? "processing" : "queued";
      const job = await tx`select from jobs where id = ${jobId} and run = ${run} and status = ${status} for update`;
      if (job.count === 0) return false;
      if (stage) {
        const waiting = await tx`
          select from stages where id = ${stage.stageId} and run = ${stage.run} and status in ('planning', 'reducing')
            and owner is null and discarded_at is null for update`;
        if (waiting.count === 0) return false;
      }
      return await stopJobWithin(tx, { jobId, as: "failed", error });
    }
  }
}

/** One hint a task: in company, one that kills its runner would take the others with it. */
async function resendTasks(
  tx: Db,
  { stageId, run, tasks, counted }: Extract<PoisonAction, { act: "resend-tasks" }>,
): Promise<boolean> {
  const hinted = await tx`
    with wanted as (
      select * from json_to_recordset(${JSON.stringify(tasks)}::text::json) as wanted("taskId" bigint, "outboxId" bigint)
    ), held as (
      select tasks.id, nextval('outbox_id_seq') as new_outbox_id
      from wanted join tasks on tasks.id = "taskId" join outbox on outbox.id = tasks.outbox_id
      join stages on stages.id = tasks.stage_id join jobs on jobs.id = stages.job_id
      where stages.id = ${stageId} and ${run === null ? tx`true` : tx`stages.run = ${run}`}
        and stages.status in ('planning', 'open') and jobs.status = 'processing'
        and tasks.status = 'pending' and tasks.outbox_id = "outboxId" and outbox.status = 'queued'
      order by tasks.id for update of tasks
    ), moved as (
      update tasks set outbox_id = new_outbox_id, poisonings = poisonings + ${Number(counted)}
      from held where tasks.id = held.id
      returning tasks.id, stage_id, index, not_before, outbox_id
    )
    insert into outbox (id, batch_id, job_id, stage_id, transport, queue, kind, run, task_ids, urgent, not_before)
    select outbox_id, job_id || '-s' || number || '-r' || stages.run || '-t' || index || '-p' || outbox_id, job_id, stages.id,
      processing_path, stages.queue, 'tasks', stages.run, array[moved.id], true, greatest(now(), moved.not_before)
    from moved join stages on stages.id = stage_id join jobs on jobs.id = job_id`;
  return hinted.count > 0;
}

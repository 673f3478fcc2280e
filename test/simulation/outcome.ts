import type { Sql } from "../../shared/store/database.ts";
import { maxStageFailures, maxStageInterruptions, maxStageRetries } from "../../shared/store/stages.ts";
import { type JobScript, planOf, type StageScript, sumOf, TaskParameters, type TaskResult, valueOf } from "./scripted-jobs.ts";
import type { Blobs } from "./simulated-claim-check.ts";
import * as v from "valibot";

interface TaskRow {
  readonly id: number;
  readonly stageId: number;
  readonly index: number;
  readonly status: string;
  readonly parameters: unknown;
  readonly attempt: number;
  readonly result: TaskResult | null;
  readonly resultRef: string | null;
  readonly code: string | null;
}

interface StageRow {
  readonly id: number;
  readonly jobId: string;
  readonly number: number;
  readonly status: string;
  readonly planned: number;
  readonly failed: number;
  readonly sealed: boolean;
  readonly failures: number;
  readonly interruptions: number;
  readonly retries: number;
  readonly metadata: Record<string, unknown> | null;
}

interface JobRow {
  readonly id: string;
  readonly status: string;
  readonly result: { readonly sums?: readonly unknown[] } | null;
  readonly code: string | null;
}

export interface Expected {
  /** By job id. */
  readonly scripts: ReadonlyMap<string, JobScript>;
  readonly cancelled: ReadonlySet<string>;
  /** Of each attempt that ran, by `task id/attempt`. */
  readonly claims: ReadonlyMap<string, string>;
  readonly blobs: Blobs;
}

/** With everything ended: whether each job ended as it had to, and computed what it had to. Returns what is wrong. */
export async function checkOutcome(sql: Sql, { scripts, cancelled, claims, blobs }: Expected): Promise<readonly string[]> {
  const wrong: string[] = [];
  const jobs = await sql<JobRow[]>`select id, status, result, error ->> 'code' as code from jobs`;
  const stages = await sql<StageRow[]>`
    select id, job_id as "jobId", number, status, planned, failed, sealed, failures, interruptions, retries,
      result -> 'metadata' as metadata
    from stages where discarded_at is null order by number`;
  const tasks = await sql<TaskRow[]>`
    select id, stage_id as "stageId", index, status, parameters, attempt, result, result_ref as "resultRef", error ->> 'code' as code
    from tasks order by stage_id, index`;
  const resultOf = (task: TaskRow) =>
    task.resultRef ? blobs.get(task.resultRef)?.[0] as TaskResult | undefined ?? null : task.result;

  for (const job of jobs) {
    const script = scripts.get(job.id);
    if (!script) throw new Error(`nobody submitted job ${job.id}`);
    const own = stages.filter(({ jobId }) => jobId === job.id);
    let earlier: { result: TaskResult | null }[] = [];
    for (const stage of own) {
      const name = `stage ${stage.id}`;
      const rows = tasks.filter(({ stageId }) => stageId === stage.id);
      const plan = planOf(script, stage.number, earlier);
      if (stage.sealed && rows.length !== plan.length) wrong.push(`${name} has ${rows.length} tasks, not ${plan.length}`);
      for (const task of rows) {
        const parameters = v.parse(TaskParameters, task.parameters);
        if (JSON.stringify(parameters) !== JSON.stringify(plan[task.index])) {
          wrong.push(`task ${task.id} was not planned as it should be`);
        }
        if (task.status === "failed") {
          if (task.code === "task-failed" && parameters.behaviour !== "permanent") {
            wrong.push(`task ${task.id} failed for good, as nobody said`);
          }
          continue;
        }
        if (task.status !== "completed") continue;
        const result = resultOf(task);
        if (result?.value !== valueOf(parameters)) wrong.push(`task ${task.id} has the result of something else`);
        if (result?.claim !== claims.get(`${task.id}/${task.attempt}`)) {
          wrong.push(`task ${task.id} has the result of another attempt`);
        }
        if (/^(fails|permanent|kills)$/.test(parameters.behaviour)) {
          wrong.push(`task ${task.id} completed, but it ${parameters.behaviour}`);
        }
      }
      earlier = rows.map((task) => ({ result: task.status === "completed" ? resultOf(task) : null }));
      if (stage.status === "completed" && (stage.metadata?.sum !== sumOf(earlier) || stage.metadata.tasks !== rows.length)) {
        wrong.push(`${name} was reduced to ${JSON.stringify(stage.metadata)}, not to ${sumOf(earlier)} of ${rows.length}`);
      }
      if (stage.retries > maxStageRetries) wrong.push(`${name} was retried ${stage.retries} times`);
      const next = own.find(({ number }) => number === stage.number + 1);
      if (next && stage.status !== "completed") wrong.push(`${name} is ${stage.status}, but the next stage was opened`);
    }
    wrong.push(...checkEnd(job, own, script, cancelled.has(job.id)));
  }
  if (jobs.length !== scripts.size) wrong.push(`${scripts.size} jobs were submitted, ${jobs.length} are there`);
  return wrong;
}

function checkEnd(job: JobRow, stages: readonly StageRow[], script: JobScript, cancelled: boolean): string[] {
  const name = `job ${job.id.slice(0, 4)}`;
  const last = stages.at(-1);
  const lastScript = last && script.stages[last.number - 1];
  switch (job.status) {
    case "cancelled":
      return cancelled ? [] : [`${name} was cancelled by nobody`];
    case "completed":
    case "completed_with_errors": {
      const wrong: string[] = [];
      const failed = stages.some((stage) => stage.failed > 0);
      if (failed !== (job.status === "completed_with_errors")) {
        wrong.push(`${name} is ${job.status}, ${failed ? "but" : "and no"} task failed`);
      }
      if (stages.some((stage) => stage.failed > (script.stages[stage.number - 1]?.tolerate ?? 0))) {
        wrong.push(`${name} completed, but more tasks failed than tolerated`);
      }
      if (stages.length !== script.stages.length && lastScript?.decides !== "complete") {
        wrong.push(`${name} completed at stage ${stages.length}`);
      }
      const sums = stages.map(({ metadata }) => metadata?.sum);
      if (JSON.stringify(job.result?.sums) !== JSON.stringify(sums)) {
        wrong.push(`${name} has the result ${JSON.stringify(job.result)}`);
      }
      return wrong;
    }
    case "failed":
      return hadToFail(job, last, lastScript) ? [] : [`${name} failed, ${job.code}, for no reason: ${JSON.stringify(last)}`];
    default:
      return [`${name} is ${job.status}`];
  }
}

function hadToFail({ code }: JobRow, last: StageRow | undefined, script: StageScript | undefined): boolean {
  if (!last || !script) return false;
  switch (code) {
    case "stage-failed":
      return last.failed > script.tolerate || script.decides === "fail" || script.decides === "retry always";
    case "interrupted":
      return last.interruptions >= maxStageInterruptions || last.failures >= maxStageFailures;
    case "error":
      return last.failures >= maxStageFailures;
    default:
      return false;
  }
}

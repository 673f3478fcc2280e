import type { Sql } from "../../shared/store/database.ts";
import { maxStageFailures, maxStageInterruptions, maxStageRetries } from "../../shared/store/stages.ts";
import { maxInterruptions } from "../../shared/store/tasks.ts";
import { maxFailures } from "./scripted-jobs.ts";
import {
  hasEnded,
  type JobStatus,
  jobTransitions,
  type StageStatus,
  stageTransitions,
  type TaskStatus,
  taskTransitions,
} from "../../shared/status.ts";

interface JobState {
  readonly id: string;
  readonly status: JobStatus;
  readonly run: number;
}
interface StageState {
  readonly id: number;
  readonly job_id: string;
  readonly number: number;
  readonly status: StageStatus;
  readonly run: number;
  readonly owner: string | null;
  readonly lease: number | null;
  readonly counts: string;
  readonly failures: number;
  readonly interruptions: number;
  readonly retries: number;
}
interface TaskState {
  readonly id: number;
  readonly stage_id: number;
  readonly index: number;
  readonly status: TaskStatus;
  readonly attempt: number;
  readonly claim_id: string | null;
  readonly runner_id: string | null;
  readonly claimed: number | null;
  readonly due: number | null;
  readonly failures: number;
  readonly interruptions: number;
  readonly result: { readonly claim?: string } | null;
  readonly result_ref: string | null;
  readonly code: string | null;
}
interface RunnerState {
  readonly id: string;
  readonly lease: number;
}

/** The rows, as of one moment. */
export interface Snapshot {
  readonly jobs: readonly JobState[];
  readonly stages: readonly StageState[];
  readonly tasks: readonly TaskState[];
  readonly runners: readonly RunnerState[];
}

export const emptySnapshot: Snapshot = { jobs: [], stages: [], tasks: [], runners: [] };

/** As text, so that an unchanged one costs no parsing. */
export async function readSnapshot(sql: Sql): Promise<string> {
  const [row] = await sql<{ snapshot: string }[]>`
    select json_build_object(
      'jobs', (select coalesce(json_agg(row order by row.id), '[]') from (select id, status, run from jobs) as row),
      'stages', (select coalesce(json_agg(row order by row.id), '[]') from (
        select id, job_id, number, status, run, owner, extract(epoch from lease_until) * 1000 as lease, failures, interruptions, retries,
          concat_ws(' ', planned, sealed, completed, failed, cancelled) as counts from stages) as row),
      'tasks', (select coalesce(json_agg(row order by row.id), '[]') from (
        select id, stage_id, index, status, attempt, claim_id, runner_id, extract(epoch from claimed_at) * 1000 as claimed,
          extract(epoch from not_before) * 1000 as due, failures, interruptions, result, result_ref, error ->> 'code' as code
        from tasks) as row),
      'runners', (select coalesce(json_agg(row order by row.id), '[]') from (
        select id, extract(epoch from lease_until) * 1000 as lease from runners) as row)
    )::text as snapshot`;
  return row?.snapshot ?? "";
}

export interface Moment {
  /** Of the statement that made the change, as the database has it. */
  readonly now: number;
  /** Beyond its time-out, before an attempt under a live lease counts as hung. */
  readonly hungAfterMs: number;
  /** The process whose statement it was. */
  readonly by: string;
  /** Of each attempt that ran, by `task id/attempt`. */
  readonly claims: ReadonlyMap<string, string>;
}

/** What one statement changed, in words, and what of it no statement may change. */
export function compare(
  before: Snapshot,
  after: Snapshot,
  { now, hungAfterMs, claims, by }: Moment,
): { changes: string[]; violations: string[] } {
  const changes: string[] = [];
  const violations: string[] = [];
  const jobs = byId(before.jobs);
  for (const job of after.jobs) {
    const was = jobs.get(job.id);
    const name = `job ${job.id.slice(0, 4)}`;
    if (was?.status !== job.status) changes.push(`${name} ${was?.status ?? "new"} → ${job.status}`);
    if (!was || was.status === job.status) continue;
    if (hasEnded(was.status) && was.run === job.run) violations.push(`${name} had ended ${was.status} and is ${job.status}`);
    else if (!isLegal(jobTransitions, was.status, job.status)) {
      violations.push(`${name} may not go from ${was.status} to ${job.status}`);
    }
  }
  const stages = byId(before.stages);
  const jobsAfter = byId(after.jobs);
  for (const stage of after.stages) {
    const was = stages.get(stage.id);
    const name = `stage ${stage.id} (${stage.job_id.slice(0, 4)}/${stage.number})`;
    if (
      !was || was.status !== stage.status || was.run !== stage.run || was.owner !== stage.owner || was.counts !== stage.counts
    ) {
      const show = (state: StageState | undefined) =>
        state
          ? `${state.status} run ${state.run} [${state.counts}]${state.owner ? ` of ${shortOwner(state.owner)}` : ""}`
          : "new";
      changes.push(`${name} ${show(was)} → ${show(stage)}`);
    }
    if (!was) continue;
    // The seal of a stage with nothing open opens its barrier in the same transaction.
    const sealedToo = was.status === "planning" && stage.status === "reducing";
    if (was.status !== stage.status && !sealedToo && !isLegal(stageTransitions, was.status, stage.status)) {
      violations.push(`${name} may not go from ${was.status} to ${stage.status}`);
    }
    if (stage.failures > maxStageFailures) violations.push(`${name} counts ${stage.failures} failures`);
    if (stage.interruptions > maxStageInterruptions) violations.push(`${name} counts ${stage.interruptions} interruptions`);
    if (stage.retries > maxStageRetries) violations.push(`${name} counts ${stage.retries} retries`);
    if (was.run > stage.run) violations.push(`the run of ${name} fell`);
    if (
      was.owner && stage.owner && was.owner !== stage.owner && was.run === stage.run && was.status === stage.status &&
      (was.lease ?? 0) > now
    ) {
      violations.push(`${name} was taken by ${stage.owner} under the live lease of ${was.owner}`);
    }
    const isDecided = stage.status === "completed" || stage.run > was.run;
    const isReleased = stage.owner === null && stage.status === was.status;
    if (was.owner && (was.lease ?? 0) > now && !was.owner.startsWith(`${by}/`) && (isDecided || isReleased)) {
      violations.push(`${name} was ${isDecided ? "decided" : "released"} by ${by} under the live lease of ${was.owner}`);
    }
    if (stage.interruptions > was.interruptions && (was.lease ?? 0) >= now) {
      violations.push(`${name} was interrupted under a live lease`);
    }
  }
  const tasks = byId(before.tasks);
  const stagesAfter = byId(after.stages);
  const runners = byId(before.runners);
  for (const task of after.tasks) {
    const was = tasks.get(task.id);
    const name = `task ${task.id} (${task.stage_id}/${task.index})`;
    const stage = stagesAfter.get(task.stage_id);
    const job = jobsAfter.get(stage?.job_id ?? "");
    if (!was || was.status !== task.status || was.attempt !== task.attempt) {
      changes.push(
        `${name} ${was?.status ?? "new"} → ${task.status} attempt ${task.attempt}${task.claim_id ? ` ${task.claim_id}` : ""}` +
          `${
            task.code && task.status !== "processing" ? ` ${task.code}` : ""
          } failures ${task.failures} interruptions ${task.interruptions}`,
      );
    }
    if (!was) {
      if (stage?.status !== "planning") violations.push(`${name} was planned into a stage that is ${stage?.status}`);
      if (job?.status !== "processing") violations.push(`${name} was planned in a job that is ${job?.status}`);
      continue;
    }
    if (was.status !== task.status && !isLegal(taskTransitions, was.status, task.status)) {
      violations.push(`${name} may not go from ${was.status} to ${task.status}`);
    }
    if (task.interruptions > maxInterruptions) violations.push(`${name} counts ${task.interruptions} interruptions`);
    if (task.attempt < was.attempt) violations.push(`the attempts of ${name} fell from ${was.attempt} to ${task.attempt}`);
    if (was.status === "completed" && JSON.stringify(was) !== JSON.stringify(task)) {
      violations.push(`${name} had completed, and was changed: ${JSON.stringify(was)} to ${JSON.stringify(task)}`);
    }
    const claimed = was.status !== "processing" && task.status === "processing";
    if (claimed) {
      if (task.attempt !== was.attempt + 1) {
        violations.push(`${name} was claimed, and its attempt went from ${was.attempt} to ${task.attempt}`);
      }
      if ((was.due ?? 0) > now) violations.push(`${name} was claimed before it was due`);
      if (job?.status !== "processing") violations.push(`${name} was claimed in a job that is ${job?.status}`);
      if (stage?.status !== "open" && stage?.status !== "planning") {
        violations.push(`${name} was claimed in a stage that is ${stage?.status}`);
      }
    } else if (task.attempt !== was.attempt) violations.push(`the attempt of ${name} changed without a claim`);
    if (was.status === "processing" && task.claim_id && was.claim_id !== task.claim_id) {
      violations.push(`${name} was claimed from under ${was.claim_id} by ${task.claim_id}`);
    }
    const isRecorded = task.status === "completed" || task.failures > was.failures;
    if (isRecorded && was.status === "processing" && was.runner_id !== by) {
      violations.push(`${name} was recorded by ${by} while ${was.runner_id} ran it: with the result of another attempt`);
    }
    if (task.interruptions > was.interruptions && was.status === "processing") {
      const leased = (runners.get(was.runner_id ?? "")?.lease ?? 0) >= now;
      if (leased && (was.claimed ?? 0) + hungAfterMs >= now) {
        violations.push(`${name} was interrupted while its attempt was alive`);
      }
    }
    if (was.status !== "completed" && task.result && task.result.claim !== claims.get(`${task.id}/${task.attempt}`)) {
      violations.push(`${name} completed with the result of another attempt: ${task.result.claim}`);
    }
    if (was.status !== "failed" && task.status === "failed") violations.push(...checkFailure(name, was, task));
  }
  return { changes, violations };
}

/** Only a spent budget, or an error that says so, fails a task. */
function checkFailure(name: string, was: TaskState, { code, failures, interruptions }: TaskState): string[] {
  if (was.status !== "processing") return [`${name} failed without an attempt`];
  const spent = `${failures} failures, ${interruptions} interruptions`;
  switch (code) {
    case "error":
    case "timed-out":
      return failures === maxFailures ? [] : [`${name} failed, ${code}, after ${spent}`];
    case "interrupted":
      return interruptions === maxInterruptions ? [] : [`${name} failed, ${code}, after ${spent}`];
    case "task-failed":
      return [];
    default:
      return [`${name} failed with the code ${code}`];
  }
}

function isLegal<Status extends string>(transitions: Record<Status, readonly Status[]>, from: Status, to: Status): boolean {
  return transitions[from].includes(to);
}

function byId<Row extends { id: number | string }>(rows: readonly Row[]): Map<number | string, Row> {
  return new Map(rows.map((row) => [row.id, row]));
}

function shortOwner(owner: string): string {
  return owner.replace(/\/[0-9a-f]{60}/, "/");
}

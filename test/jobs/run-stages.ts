import { pino } from "pino";
import * as v from "valibot";
import type { TaskHandler } from "../../services/task-runner/task-handler.ts";
import type { ClaimCheck } from "../../shared/claim-check/claim-check.ts";
import { JsonObject, parse } from "../../shared/contracts/parse.ts";
import { Decision, type StageResult, type TaskOutcome } from "../../shared/contracts/stage-result.ts";
import { describeError } from "../../shared/errors.ts";
import type { EndedStage, JobDefinition } from "../../shared/jobs/define-job.ts";
import { collect } from "../support/collect.ts";

export interface EndedJob {
  readonly result: JsonObject;
  readonly stages: readonly StageResult[];
  readonly outcomes: readonly (readonly TaskOutcome[])[];
}

export interface RunStagesOptions {
  readonly handlers: ReadonlyMap<string, TaskHandler>;
  readonly claimCheck: ClaimCheck;
  /** Between planning and the first task. */
  beforeTasks?(stage: string): Promise<void>;
}

/**
 * What a job's own code does, stage by stage, without the engine around it: no queues, no rows, each task tried once. Values pass
 * through JSON between the steps, as they do through a database.
 */
export async function runStages(job: JobDefinition, parameters: unknown, options: RunStagesOptions): Promise<EndedJob> {
  const { handlers, claimCheck } = options;
  const context = {
    jobId: "f".repeat(64),
    parameters: parse(job.params, parameters),
    claimCheck,
    signal: new AbortController().signal,
  };
  const earlier: EndedStage[] = [];
  const outcomesOfStages: TaskOutcome[][] = [];

  for (const [at, stage] of job.stages.entries()) {
    const handler = handlers.get(stage.task.type);
    if (!handler) throw new Error(`no handler of ${stage.task.type}`);
    const planned: unknown[] = await collect(stage.plan({ ...context, earlier }));
    await options.beforeTasks?.(stage.name);
    const outcomes: TaskOutcome[] = [];
    for (const [index, definition] of planned.entries()) {
      try {
        const params = parse(stage.task.params, throughJson(definition), "contract-violation");
        const ids = { jobId: context.jobId, taskId: index + 1, stage: at + 1, index, attempt: 1, claimId: crypto.randomUUID() };
        const result = await handler.run(params, { ...ids, signal: context.signal, claimCheck, log: pino({ level: "silent" }) });
        v.parse(stage.task.result, result);
        outcomes.push({ index, status: "completed", result: v.parse(JsonObject, throughJson(result)), error: null });
      } catch (error) {
        outcomes.push({ index, status: "failed", result: null, error: describeError(error) });
      }
    }
    outcomesOfStages.push(outcomes);
    const completed = outcomes.filter(({ status }) => status === "completed").length;
    const counts = { planned: planned.length, completed, failed: planned.length - completed };
    const stream = async function* () {
      yield* outcomes;
    };
    const metadata = await stage.reduce?.({ ...context, earlier, counts, outcomes: stream }) ?? {};
    const undecided: Omit<StageResult, "orchestration"> = {
      stage_number: at + 1,
      stage_key: stage.name,
      status: counts.failed > 0 ? "completed_with_errors" : "completed",
      task_count: counts.planned,
      successful_tasks: counts.completed,
      failed_tasks: counts.failed,
      success_rate: counts.planned === 0 ? 100 : (100 * completed) / counts.planned,
      completed_at: new Date().toISOString(),
      metadata: v.parse(JsonObject, throughJson(metadata)),
    };
    const isLast = at === job.stages.length - 1;
    const decision = stage.decide?.(undecided, { ...context, earlier }) ?? { action: isLast ? "complete_job" : "advance" };
    const orchestration = v.parse(Decision, decision);
    earlier.push({ result: { ...undecided, orchestration }, outcomes: stream });
    if (orchestration.action !== "advance") break;
  }
  const stages = earlier.map(({ result }) => result);
  const result = await job.finalize?.({ ...context, earlier }) ?? stages.at(-1)?.metadata ?? {};
  return { result, stages, outcomes: outcomesOfStages };
}

function throughJson(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

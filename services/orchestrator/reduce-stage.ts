import type { Logger } from "pino";
import { isStorableJson, JsonObject, parse } from "../../shared/contracts/parse.ts";
import { Decision, type StageResult, type TaskOutcome } from "../../shared/contracts/stage-result.ts";
import { type ErrorRecord, PermanentError } from "../../shared/errors.ts";
import type { StageDefinition } from "../../shared/jobs/define-job.ts";
import { type ClaimedStage, decideStage, maxStageRetries, type StageEnd } from "../../shared/store/stages.ts";
import { findFirstError } from "../../shared/store/tasks.ts";
import { createStageSeed, type Orchestrator } from "./orchestrator.ts";
import { streamOutcomes } from "./read-stage.ts";
import { StageTakenError, type StageWork } from "./work-on-stage.ts";

const maxInlineResults = 100;
const maxInlineBytes = 262_144;
const maxResultBytes = 1_048_576;
const maxReasonLength = 1_000;

/** Folds the outcomes, decides, and commits both with what follows. Returns the next stage, ours to plan, if there is one. */
export async function reduceStage(orchestrator: Orchestrator, work: StageWork, log: Logger): Promise<ClaimedStage | null> {
  const { sql, claimCheck } = orchestrator;
  const { stage, definition, context } = work;
  const { planned, completed, failed } = stage;
  const outcomes = () => streamOutcomes(sql, claimCheck, stage.stageId);
  const metadata = definition.reduce
    ? checkResult(await definition.reduce({ ...context, counts: { planned, completed, failed }, outcomes }), "reduce")
    : {};
  const tolerated = isTolerated(definition, { planned, completed, failed });
  const reduced: Omit<StageResult, "orchestration"> = {
    stage_number: stage.number,
    stage_key: definition.name,
    status: failed === 0 ? "completed" : tolerated ? "completed_with_errors" : "failed",
    task_count: planned,
    successful_tasks: completed,
    failed_tasks: failed,
    success_rate: planned === 0 ? 100 : Math.round(completed / planned * 10_000) / 100,
    ...await collectResults(outcomes, work),
    completed_at: new Date().toISOString(),
    metadata,
  };
  const firstError = tolerated ? null : await findFirstError(sql, stage.stageId);
  const decision = decide(work, reduced, { tolerated, firstError });
  const end = await createEnd(work, { ...reduced, orchestration: decision });
  const decided = await decideStage(sql, stage, end);
  if (decided === "lost") throw new StageTakenError("the decision came too late");
  log.info({ planned, failed, ...decision }, "stage decided");
  if (end.then.action === "retry-stage") orchestrator.wakeRelay();
  return decided.next;
}

function isTolerated(
  { tolerate }: StageDefinition<unknown>,
  { planned, completed, failed }: { planned: number; completed: number; failed: number },
): boolean {
  const { count, percent, quorum } = tolerate ?? { count: 0 };
  return failed <= (count ?? Infinity) && failed <= (percent ?? 100) / 100 * planned && completed >= (quorum ?? 0);
}

/** What the stage says, within what is allowed: too many failures can only be retried or fail the job. */
function decide(
  { stage, job, definition, context }: StageWork,
  result: Omit<StageResult, "orchestration">,
  { tolerated, firstError }: { tolerated: boolean; firstError: ErrorRecord | null },
): Decision {
  const asked: Decision = definition.decide
    ? parse(Decision, definition.decide(result, context), "contract-violation")
    : { action: "advance" };
  if (asked.action === "retry_stage" && stage.retries >= maxStageRetries) {
    return { action: "fail_job", reason: `retry_stage was decided more than ${maxStageRetries} times: ${asked.reason ?? ""}` };
  }
  if (asked.action === "fail_job" || asked.action === "retry_stage") return asked;
  if (!tolerated) {
    const failed = `${result.failed_tasks} of ${result.task_count} tasks of stage ${definition.name} failed`;
    const because = firstError ? `${failed}; the first one: ${firstError.message}` : failed;
    return { action: "fail_job", reason: because.slice(0, maxReasonLength).toWellFormed() };
  }
  return asked.action === "advance" && stage.number === job.stages.length ? { ...asked, action: "complete_job" } : asked;
}

async function createEnd({ stage, job, context }: StageWork, result: StageResult): Promise<StageEnd> {
  const { action, reason } = result.orchestration;
  if (action === "retry_stage") return { result, then: { action: "retry-stage" } };
  if (action === "fail_job") {
    return {
      result,
      then: { action: "fail-job", error: { code: "stage-failed", message: reason ?? `stage ${result.stage_key} failed` } },
    };
  }
  const next = job.stages[stage.number];
  if (action === "advance" && next) {
    return { result, then: { action: "advance", next: createStageSeed(stage.number + 1, next, context.parameters) } };
  }
  const ended = [...context.earlier.map((earlier) => earlier.result), result];
  const outcomes = () => {
    throw new Error("finalize reads results of stages, not of tasks");
  };
  const earlier = [...context.earlier, { result, outcomes }];
  const jobResult = job.finalize ? await job.finalize({ ...context, earlier }) : result.metadata;
  return {
    result,
    then: {
      action: "end-job",
      status: ended.some((stageResult) => stageResult.failed_tasks > 0) ? "completed_with_errors" : "completed",
      result: checkResult(jobResult, "finalize"),
    },
  };
}

function checkResult(value: unknown, from: string): JsonObject {
  const result = parse(JsonObject, value, "contract-violation");
  const json = JSON.stringify(result);
  if (!isStorableJson(json)) throw new PermanentError("contract-violation", `${from} gave U+0000 or half a surrogate pair`);
  if (Buffer.byteLength(json) > maxResultBytes) {
    throw new PermanentError("contract-violation", `${from} gave more than ${maxResultBytes} bytes`);
  }
  return result;
}

async function collectResults(
  outcomes: () => AsyncIterable<TaskOutcome>,
  { stage }: StageWork,
): Promise<Pick<StageResult, "task_results"> | Pick<StageResult, "task_results_ref">> {
  const reference = { task_results_ref: `/api/db/tasks/${stage.jobId}?stage=${stage.number}` };
  if (stage.planned > maxInlineResults) return reference;
  const results: TaskOutcome[] = [];
  let bytes = 0;
  for await (const outcome of outcomes()) {
    bytes += Buffer.byteLength(JSON.stringify(outcome));
    if (bytes > maxInlineBytes) return reference;
    results.push(outcome);
  }
  return { task_results: results };
}

import { setTimeout as sleep } from "node:timers/promises";
import { ContractError, parse } from "../../shared/contracts/parse.ts";
import { describeError, PermanentError } from "../../shared/errors.ts";
import type { EndedStage, JobDefinition, StageContext, StageDefinition } from "../../shared/jobs/define-job.ts";
import { isDatabaseAway, retryWhileAway } from "../../shared/store/database.ts";
import { findJob } from "../../shared/store/jobs.ts";
import {
  type ClaimedStage,
  maxStageFailures,
  readEarlierStages,
  releaseStage,
  renewStage,
  retakeStage,
  stageLeaseMs,
} from "../../shared/store/stages.ts";
import type { Delivery } from "../../shared/transport/consume.ts";
import { closeJob } from "./close-job.ts";
import type { Orchestrator } from "./orchestrator.ts";
import { planStage } from "./plan-stage.ts";
import { readEndedStage } from "./read-stage.ts";
import { reduceStage } from "./reduce-stage.ts";

/** A stage that this process owns, with its definition and what its functions are given. */
export interface StageWork {
  readonly stage: ClaimedStage;
  readonly job: JobDefinition;
  readonly definition: StageDefinition<unknown>;
  readonly context: StageContext<unknown>;
}

/** The stage was taken over, or its job is stopping: what was being done about it is of no use any more. */
export class StageTakenError extends Error {
  override readonly name = "StageTakenError";
}

/**
 * Plans or reduces a stage, and goes on with the next one as long as that is ours, under a lease that is renewed. What the
 * stage's own functions throw is recorded on its row and comes again after a backoff, a bounded number of times. While the
 * database is away it waits and takes up what it still owns.
 */
export async function workOnStage(orchestrator: Orchestrator, first: ClaimedStage, delivery: Delivery): Promise<void> {
  const { sql } = orchestrator;
  let stage: ClaimedStage | null = first;
  while (stage) {
    const current: ClaimedStage = stage;
    const { jobId, number, owner, run } = current;
    const log = delivery.log.child({ stage: number, run });
    try {
      stage = await withLease(orchestrator, current, delivery.signal, async (signal) => {
        const work = await prepare(orchestrator, current, signal);
        return current.status === "planning" ? await planStage(orchestrator, work) : await reduceStage(orchestrator, work, log);
      });
      delivery.phase(current.status === "planning" ? "planned" : "reduced");
    } catch (error) {
      if (isDatabaseAway(error)) {
        await sleep(200 + Math.random() * 200);
        stage = await retryWhileAway(() => retakeStage(sql, owner, jobId), delivery.signal);
      } else if (error instanceof StageTakenError) {
        log.info({ reason: error.message }, "stage is no longer ours");
        return;
      } else if (delivery.signal.aborted) {
        await releaseStage(sql, current, null);
        return;
      } else {
        log.error({ err: error, status: current.status }, "stage failed");
        await recordFailure(orchestrator, current, error, delivery.signal);
        return;
      }
    }
  }
}

async function recordFailure(
  orchestrator: Orchestrator,
  stage: ClaimedStage,
  error: unknown,
  signal: AbortSignal,
): Promise<void> {
  const record = describeError(error);
  const failures = await retryWhileAway(() => releaseStage(orchestrator.sql, stage, record), signal);
  if (failures === null) return;
  if (failures < maxStageFailures && !(error instanceof PermanentError)) return orchestrator.wakeRelay();
  await retryWhileAway(() => closeJob(orchestrator, stage.jobId, { as: "failed", error: record }), signal);
}

async function prepare(orchestrator: Orchestrator, stage: ClaimedStage, signal: AbortSignal): Promise<StageWork> {
  const { sql, jobs, claimCheck } = orchestrator;
  const row = await findJob(sql, stage.jobId);
  const job = jobs.get(row?.jobType ?? "");
  const definition = job?.stages[stage.number - 1];
  if (!row || !job || !definition) {
    throw new PermanentError("unknown-type", `no stage ${stage.number} in job type ${row?.jobType}`);
  }
  const parameters = parse(job.params, row.parameters, "contract-violation");
  const earlier: readonly EndedStage[] = (await readEarlierStages(sql, stage.jobId, stage.number))
    .map((ended) => readEndedStage(sql, claimCheck, ended));
  if (earlier.length !== stage.number - 1) {
    throw new ContractError("contract-violation", [{ field: "stages", message: "one has no result" }]);
  }
  return { stage, job, definition, context: { jobId: stage.jobId, parameters, earlier, claimCheck, signal } };
}

/** Renews the lease while `run` runs; aborts its signal as soon as the stage is somebody else's. */
async function withLease<Result>(
  { sql }: Orchestrator,
  stage: ClaimedStage,
  stop: AbortSignal,
  run: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const lost = new AbortController();
  let renewal: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    renewal = renewStage(sql, stage).then((ours) => {
      if (!ours) lost.abort(new StageTakenError("its lease was lost"));
    }, () => {}); // the next one may succeed; if none does, the guards of every write notice
  }, stageLeaseMs / 3);
  try {
    return await run(AbortSignal.any([lost.signal, stop]));
  } finally {
    clearInterval(timer);
    await renewal;
  }
}

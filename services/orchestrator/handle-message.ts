import { parseJson } from "../../shared/contracts/parse.ts";
import { StageMessage, StartJobMessage } from "../../shared/contracts/messages.ts";
import { PermanentError } from "../../shared/errors.ts";
import { deferJob, findJob, startJob } from "../../shared/store/jobs.ts";
import { deferStage, findStage, retakeStage, takeStage } from "../../shared/store/stages.ts";
import type { Delivery, MessageHandler } from "../../shared/transport/consume.ts";
import { complete } from "../../shared/transport/transport.ts";
import { createStageSeed, type Orchestrator } from "./orchestrator.ts";
import { closeJob } from "./close-job.ts";
import { workOnStage } from "./work-on-stage.ts";

/** Times that a job or stage is put off by processes that don't know its type, before the job has failed: ten minutes in all. */
const maxDeferrals = 6;
const deferralDelay = { firstMs: 20_000, maxMs: 320_000 };

/** Handles a hint of the jobs queue: starts the job, and plans its first stage, or opens the one again that it is retried from. */
export function createJobHandler(orchestrator: Orchestrator): MessageHandler {
  const { sql, jobs } = orchestrator;
  return async (message, delivery) => {
    const { jobId, run, correlationId } = parseJson(StartJobMessage, message.body);
    delivery.identify({ jobId, correlationId });
    delivery.phase("parsed");
    const job = await findJob(sql, jobId);
    if (!job) throw new PermanentError("unknown-job", `no job ${jobId}`);
    const first = jobs.get(job.jobType)?.stages[job.firstStage - 1];
    if (!first) {
      const deferrals = await deferJob(sql, { jobId, run, delay: deferralDelay });
      await waitForType(orchestrator, delivery, { jobId, jobType: job.jobType, deferrals });
      return complete;
    }
    // The same message to the same process is the same owner, so what an answer that was lost had begun is found again.
    const owner = `${orchestrator.id}/${message.messageId}`;
    const stage = await startJob(sql, owner, { jobId, run, stage: createStageSeed(job.firstStage, first, job.parameters) }) ??
      await retakeStage(sql, owner, jobId);
    delivery.phase("claimed");
    if (stage) await workOnStage(orchestrator, stage, delivery);
    else if (run > 1) orchestrator.wakeRelay(); // it may have opened a stage again
    return complete;
  };
}

/** Handles a hint of the stages queue: plans or reduces the stage, as its row says. */
export function createStageHandler(orchestrator: Orchestrator): MessageHandler {
  const { sql, jobs } = orchestrator;
  return async (message, delivery) => {
    const { stageId, jobId, run, correlationId } = parseJson(StageMessage, message.body);
    delivery.identify({ jobId, stageId, correlationId });
    delivery.phase("parsed");
    const row = await findStage(sql, stageId);
    if (!row || row.jobId !== jobId) throw new PermanentError("unknown-job", `no stage ${stageId} of job ${jobId}`);
    if (!jobs.has(row.jobType)) {
      const deferrals = await deferStage(sql, { stageId, run, delay: deferralDelay });
      await waitForType(orchestrator, delivery, { jobId, jobType: row.jobType, deferrals });
      return complete;
    }
    const owner = `${orchestrator.id}/${message.messageId}`;
    const stage = await retakeStage(sql, owner, jobId) ?? await takeStage(sql, owner, stageId, run);
    delivery.phase("claimed");
    if (stage) await workOnStage(orchestrator, stage, delivery);
    return complete;
  };
}

/** A rolling deploy: another process may know the type, and gets the next hint. Bounded, then the job has failed. */
async function waitForType(
  orchestrator: Orchestrator,
  { log }: Delivery,
  { jobId, jobType, deferrals }: { jobId: string; jobType: string; deferrals: number | null },
): Promise<void> {
  if (deferrals === null) return; // ended, taken by somebody, or put off already
  log.warn({ jobType, deferrals }, "job type is unknown here");
  if (deferrals < maxDeferrals) return;
  await closeJob(orchestrator, jobId, {
    as: "failed",
    error: { code: "unknown-type", message: `no orchestrator knows the job type ${jobType}` },
  });
}

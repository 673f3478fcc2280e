import { parseJson } from "../../shared/contracts/parse.ts";
import { StageMessage, StartJobMessage } from "../../shared/contracts/messages.ts";
import { PermanentError } from "../../shared/errors.ts";
import { findJob, startJob } from "../../shared/store/jobs.ts";
import { findStage, retakeStage, takeStage } from "../../shared/store/stages.ts";
import type { Delivery, MessageHandler } from "../../shared/transport/consume.ts";
import { complete } from "../../shared/transport/transport.ts";
import { createStageSeed, type Orchestrator } from "./orchestrator.ts";
import { closeJob } from "./close-job.ts";
import { workOnStage } from "./work-on-stage.ts";

/** Sendings of a hint after which a type that no process knows fails the job: about ten minutes and twenty. */
const maxSendsOfUnknownType = 6;

/** Handles a hint of the jobs queue: starts the job, and plans its first stage. */
export function createJobHandler(orchestrator: Orchestrator): MessageHandler {
  const { sql, jobs } = orchestrator;
  return async (message, delivery) => {
    const { jobId, run, correlationId } = parseJson(StartJobMessage, message.body);
    delivery.identify({ jobId, correlationId });
    delivery.phase("parsed");
    const job = await findJob(sql, jobId);
    if (!job) throw new PermanentError("unknown-job", `no job ${jobId}`);
    const [first] = jobs.get(job.jobType)?.stages ?? [];
    if (!first) {
      if (job.status === "queued") await waitForType(orchestrator, delivery, jobId, job.jobType, job.startSends);
      return complete;
    }
    // The same message to the same process is the same owner, so what an answer that was lost had begun is found again.
    const owner = `${orchestrator.id}/${message.messageId}`;
    const stage = await startJob(sql, owner, { jobId, run, stage: createStageSeed(1, first) }) ??
      await retakeStage(sql, owner, jobId);
    delivery.phase("claimed");
    if (stage) await workOnStage(orchestrator, stage, delivery);
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
      if (row.status === "planning" || row.status === "reducing") {
        await waitForType(orchestrator, delivery, jobId, row.jobType, row.sends);
      }
      return complete;
    }
    const owner = `${orchestrator.id}/${message.messageId}`;
    const stage = await retakeStage(sql, owner, jobId) ?? await takeStage(sql, owner, stageId, run);
    delivery.phase("claimed");
    if (stage) await workOnStage(orchestrator, stage, delivery);
    return complete;
  };
}

/** A rolling deploy: another process may know the type, and the sweep hints again. Bounded, then the job has failed. */
async function waitForType(
  orchestrator: Orchestrator,
  { log }: Delivery,
  jobId: string,
  jobType: string,
  sends: number,
): Promise<void> {
  log.warn({ jobType, sends }, "job type is unknown here");
  if (sends < maxSendsOfUnknownType) return;
  await closeJob(orchestrator, jobId, {
    as: "failed",
    error: { code: "unknown-type", message: `no orchestrator knows the job type ${jobType}` },
  });
}

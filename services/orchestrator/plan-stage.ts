import { PermanentError } from "../../shared/errors.ts";
import { checkParameters } from "../../shared/jobs/check-parameters.ts";
import { type ClaimedStage, insertTasks, sealStage } from "../../shared/store/stages.ts";
import { sendFirst } from "../../shared/transport/send-batches.ts";
import type { Orchestrator } from "./orchestrator.ts";
import { StageTakenError, type StageWork } from "./work-on-stage.ts";

/** Tasks inserted by one statement: the first batch goes out at once, later statements carry more. */
const maxInsertedTasks = 2_000;
/** Their parameters, in one statement: large ones go in smaller chunks. */
const maxInsertedBytes = 8 * 1_048_576;
const maxTasksOfStage = 10_000_000;

/**
 * Streams the stage's definitions into rows and batches, from where planning last got to, and seals it. Every write is guarded,
 * so of two planners one inserts and the other stops (protocol, rule 10). Always null: nothing is ours afterwards.
 */
export async function planStage(
  orchestrator: Orchestrator,
  { stage, definition, context }: StageWork,
): Promise<ClaimedStage | null> {
  const { sql } = orchestrator;
  const { tasksPerMessage } = stage;
  const aligned = tasksPerMessage * 100;
  let chunk = aligned;
  let nextIndex = stage.nextIndex;
  let parameters: unknown[] = [];
  let bytes = 0;

  async function insert(): Promise<void> {
    if (!await insertTasks(sql, stage, { startIndex: nextIndex, parameters, tasksPerMessage })) {
      throw new StageTakenError("another planner inserted, or the job is stopping");
    }
    nextIndex += parameters.length;
    parameters = [];
    bytes = 0;
    chunk = Math.max(aligned, Math.floor(Math.min(chunk * 2, maxInsertedTasks) / aligned) * aligned);
    orchestrator.wakeRelay();
  }

  let index = 0;
  for await (const definitionOfTask of definition.plan(context)) {
    context.signal.throwIfAborted();
    if (index++ < stage.nextIndex) continue;
    if (index > maxTasksOfStage) {
      throw new PermanentError("contract-violation", `stage ${stage.number} plans more than ${maxTasksOfStage} tasks`);
    }
    const checked = checkParameters(definition.task, `task ${index - 1}`, definitionOfTask);
    parameters.push(checked.parameters);
    bytes += checked.bytes;
    const isFull = parameters.length === chunk || bytes > maxInsertedBytes && parameters.length % tasksPerMessage === 0;
    if (isFull) await insert();
  }
  if (index < stage.nextIndex) {
    throw new PermanentError("contract-violation", `plan gave ${index} tasks, but ${stage.nextIndex} when it ran before`);
  }
  if (parameters.length > 0) await insert();
  const batches = await sealStage(sql, stage, nextIndex);
  if (batches === null) throw new StageTakenError("it could not be sealed");
  await sendFirst({ db: sql, sender: stage.owner, transports: orchestrator.transports, log: orchestrator.log }, batches);
  return null;
}

import type { ClaimCheck } from "../../shared/claim-check/claim-check.ts";
import { TasksMessage } from "../../shared/contracts/messages.ts";
import { parseJson } from "../../shared/contracts/parse.ts";
import { PermanentError } from "../../shared/errors.ts";
import { createGroup } from "../../shared/group.ts";
import { isRefusedByDatabase, retryUnlessRefused, retryWhileAway } from "../../shared/store/database.ts";
import { type AttemptEnd, type Claim, type ClaimAnswer, claimTasks, recordAttempts } from "../../shared/store/tasks.ts";
import type { Delivery, MessageHandler } from "../../shared/transport/consume.ts";
import { sendBatches, type Sender } from "../../shared/transport/send-batches.ts";
import { complete, type Settlement } from "../../shared/transport/transport.ts";
import { runAttempt } from "./run-attempt.ts";
import type { TaskHandler } from "./task-handler.ts";

export interface TaskRunner extends Sender {
  readonly handlers: ReadonlyMap<string, TaskHandler>;
  readonly claimCheck: ClaimCheck;
  /** Aborted when the grace of the process is over. */
  readonly deadline: AbortSignal;
}

const maxGroup = 500;
type Recorded = "completed" | "failed" | "cancelled" | "pending" | "fenced-out";

/**
 * Handles a hint that tasks are due: claims, runs and records them. One claim statement and one completion statement of this
 * process are in flight at a time, whatever came meanwhile goes into the next. While the database is away both are asked again
 * with the same claim ids, so nothing is claimed twice and no result is given up (protocol, rule 3).
 */
export function createTasksHandler(runner: TaskRunner): MessageHandler {
  const { db, sender, handlers, claimCheck, deadline } = runner;
  let claims = 0;

  const claim = createGroup<Claim, ClaimAnswer>(
    (group) => retryWhileAway(() => claimTasks(db, sender, group), deadline),
    { maxSize: maxGroup, isItemsFault: isRefusedByDatabase },
  );
  const record = createGroup<AttemptEnd, Recorded>(async (group) => {
    // A result in hand is not given up: its message would be delivered again, and find its task held by this very process.
    const { recorded, batches } = await retryUnlessRefused(() => recordAttempts(db, sender, group), deadline);
    await sendBatches(runner, batches);
    return group.map(({ claimId }) => recorded.get(claimId) ?? "fenced-out");
  }, { maxSize: maxGroup, isItemsFault: isRefusedByDatabase });

  async function recordEnd(end: AttemptEnd): Promise<Recorded> {
    try {
      return await record(end);
    } catch (error) {
      if (!isRefusedByDatabase(error) || end.outcome !== "completed") throw error;
      // The database can't hold this result: that is the result's fault, and the task's.
      const refused = { code: "contract-violation", message: "the database refused the result" };
      return await record({
        ...end,
        outcome: "failed",
        error: refused,
        permanent: true,
        retry: { maxFailures: 0, backoffMs: 0, maxBackoffMs: 0 },
      });
    }
  }

  return async (message, delivery) => {
    const { taskIds, jobId, correlationId } = parseJson(TasksMessage, message.body);
    delivery.identify({ jobId, correlationId, ...(taskIds.length === 1 && { taskId: taskIds[0] }) });
    delivery.phase("parsed");
    const answers = await Promise.all(taskIds.map((taskId) => claim({ taskId, claimId: `${sender}:${++claims}` })));
    delivery.phase("claimed");
    if (answers.every((answer) => answer === "unknown")) {
      throw new PermanentError("unknown-task", `no task ${taskIds.join(", ")} (job ${jobId})`);
    }
    const tasks = answers.filter((answer) => typeof answer === "object");
    const ends = await Promise.all(tasks.map(async (task) => {
      const log = delivery.log.child({
        ...(taskIds.length > 1 && { taskId: task.taskId }), // or else every line of the delivery has it
        stage: task.stageNumber,
        index: task.index,
        attempt: task.attempt,
      });
      const end = await runAttempt(task, { handlers, claimCheck, signal: deadline, log });
      delivery.phase("ran");
      const status = await recordEnd({ ...end, inCompany: taskIds.length > 1 });
      logEnd(log, end, status);
      return { end, status };
    }));
    delivery.phase("recorded");
    return settlementOf(taskIds.length, ends);
  };
}

function logEnd(log: Delivery["log"], end: AttemptEnd, status: Recorded): void {
  if (status === "fenced-out") log.warn({ outcome: end.outcome }, "attempt had lost its fence");
  else if ("error" in end) log.warn({ outcome: end.outcome, status, error: end.error }, "attempt ended in an error");
}

/** A message of one task that has failed for good is an expected poison; several tasks have theirs in their rows. */
function settlementOf(tasks: number, ends: readonly { end: AttemptEnd; status: Recorded }[]): Settlement {
  const [only] = ends;
  if (tasks === 1 && only?.status === "failed" && "error" in only.end) {
    return { settle: "dead-letter", reason: "task-failed", description: `${only.end.error.code}: ${only.end.error.message}` };
  }
  return complete;
}

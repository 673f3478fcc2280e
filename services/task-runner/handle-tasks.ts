import type { ClaimCheck } from "../../shared/claim-check/claim-check.ts";
import { TasksMessage } from "../../shared/contracts/messages.ts";
import { parseJson } from "../../shared/contracts/parse.ts";
import { PermanentError } from "../../shared/errors.ts";
import { createGroup } from "../../shared/group.ts";
import type { Slots } from "../../shared/slots.ts";
import { isRefusedByDatabase, retryUnlessRefused, retryWhileAway } from "../../shared/store/database.ts";
import type { Batch } from "../../shared/store/outbox.ts";
import { type AttemptEnd, type Claim, type ClaimAnswer, claimTasks, recordAttempts } from "../../shared/store/tasks.ts";
import type { Delivery, MessageHandler } from "../../shared/transport/consume.ts";
import { type Sender, sendFirst } from "../../shared/transport/send-batches.ts";
import { abandon, complete, type Settlement } from "../../shared/transport/transport.ts";
import { runAttempt } from "./run-attempt.ts";
import type { TaskHandler } from "./task-handler.ts";

export interface TaskRunner extends Sender {
  readonly handlers: ReadonlyMap<string, TaskHandler>;
  readonly claimCheck: ClaimCheck;
  /** For the tasks of this process, whatever queue and message they came by: one each, from before the claim until it is recorded. */
  readonly slots: Slots;
  /** Aborted when the process is told to stop: no attempt begins any more. */
  readonly stop: AbortSignal;
  /** Aborted when the grace of the process is over. */
  readonly deadline: AbortSignal;
}

export interface TasksHandler {
  readonly handle: MessageHandler;
  /** Resolves when the hints of the barriers that were opened have been sent, or left to the relay. */
  whenSent(): Promise<void>;
}

const maxGroup = 500;
/** Ids of a kind in one line of the log. */
const maxIds = 20;
type Recorded = "completed" | "failed" | "cancelled" | "pending" | "fenced-out";
/** `unbegun`: the stop came first. */
type TaskEnd = { readonly end: AttemptEnd; readonly status: Recorded } | "refused" | "unknown" | "unbegun";

/**
 * Handles a hint that tasks are due: claims, runs and records them. One claim statement and one completion statement of this
 * process are in flight at a time, whatever came meanwhile goes into the next. While the database is away both are asked again
 * with the same claim ids, so nothing is claimed twice and no result is given up (protocol, rule 3).
 *
 * A message may bring a hundred tasks, and more messages are locked than tasks may run. Each task waits for a slot first and is
 * claimed then: its handler begins right after the claim, so the time-out of the attempt, which counts from there, and the
 * sweep's, which counts from the claim, are the same. What waits is still `pending`; the lock of its message is renewed meanwhile,
 * and a stop finds nothing of it to undo.
 */
export function createTasksHandler(runner: TaskRunner): TasksHandler {
  const { db, sender, handlers, claimCheck, slots, stop, deadline } = runner;
  let claims = 0;
  const sending = new Set<Promise<number>>();

  const claim = createGroup<Claim, ClaimAnswer>(
    (group) => retryWhileAway(() => claimTasks(db, sender, group), deadline),
    { maxSize: maxGroup, isItemsFault: isRefusedByDatabase },
  );
  const record = createGroup<{ jobId: string; end: AttemptEnd }, Recorded>(async (group) => {
    // A result in hand is not given up: its message would be delivered again, and find its task held by this very process.
    const { recorded, batches } = await retryUnlessRefused(() => recordAttempts(db, sender, group.map(({ end }) => end)), {
      signal: deadline,
      log: runner.log,
      ids: () => ({
        tasks: group.length,
        taskIds: group.slice(0, maxIds).map(({ end }) => end.taskId),
        jobIds: [...new Set(group.map(({ jobId }) => jobId))].slice(0, maxIds),
      }),
    });
    send(batches);
    return group.map(({ end }) => recorded.get(end.claimId) ?? "fenced-out");
  }, { maxSize: maxGroup, isItemsFault: isRefusedByDatabase });

  /** Results don't wait for it: a broker that is silent would hold them up, and their messages. */
  function send(batches: readonly Batch[]): void {
    if (batches.length === 0) return;
    const sent = sendFirst(runner, batches).finally(() => sending.delete(sent));
    sending.add(sent);
  }

  async function recordEnd(jobId: string, end: AttemptEnd): Promise<Recorded> {
    try {
      return await record({ jobId, end });
    } catch (error) {
      if (!isRefusedByDatabase(error) || end.outcome !== "completed") throw error;
      // The database can't hold this result: that is the result's fault, and the task's.
      const refused = { code: "contract-violation", message: "the database refused the result" };
      return await record({
        jobId,
        end: {
          ...end,
          outcome: "failed",
          error: refused,
          permanent: true,
          retry: { maxFailures: 0, backoffMs: 0, maxBackoffMs: 0 },
        },
      });
    }
  }

  /** A task that may have killed its process before has this one for itself: should it die again, that is nobody else's doing. */
  async function runTask(taskId: number, delivery: Delivery, tasksOfMessage: number): Promise<TaskEnd> {
    const end = await runInSlots(taskId, delivery, { tasksOfMessage, alone: false });
    if (end !== "alone") return end;
    const lonely = await runInSlots(taskId, delivery, { tasksOfMessage, alone: true });
    return lonely === "alone" ? "refused" : lonely;
  }

  async function runInSlots(
    taskId: number,
    delivery: Delivery,
    { tasksOfMessage, alone }: { tasksOfMessage: number; alone: boolean },
  ): Promise<TaskEnd | "alone"> {
    const taken = alone ? await slots.takeAll(stop) : await slots.take(1, stop);
    if (taken === 0) return "unbegun";
    try {
      const task = await claim({ taskId, claimId: `${sender}:${++claims}`, alone });
      delivery.phase("claimed");
      if (typeof task !== "object") return task;
      const { stageNumber: stage, index, attempt } = task;
      const log = delivery.log.child({ ...(tasksOfMessage > 1 && { taskId }), stage, index, attempt });
      if (alone) log.info("task runs alone: its process has died under it before");
      const end = await runAttempt(task, { handlers, claimCheck, signal: deadline, log });
      delivery.phase("ran");
      const status = await recordEnd(task.jobId, end);
      logEnd(log, end, status);
      return { end, status };
    } finally {
      slots.give(taken);
    }
  }

  return {
    async handle(message, delivery) {
      const { taskIds, jobId, correlationId } = parseJson(TasksMessage, message.body);
      const [first, ...others] = taskIds;
      delivery.identify({ jobId, correlationId, ...(others.length === 0 && { taskId: first }) });
      delivery.phase("parsed");
      // One that can't be claimed or recorded doesn't leave the others behind: they still run under this message's lock.
      const settled = await Promise.allSettled(
        taskIds.map((taskId) => runTask(taskId, delivery, taskIds.length)),
      );
      const ends = settled.map((task) => {
        if (task.status === "rejected") throw task.reason;
        return task.value;
      });
      delivery.phase("recorded");
      if (ends.every((end) => end === "unknown")) {
        throw new PermanentError("unknown-task", `no task ${taskIds.join(", ")} (job ${jobId})`);
      }
      return settlementOf(ends);
    },
    async whenSent() {
      await Promise.all(sending);
    },
  };
}

function logEnd(log: Delivery["log"], end: AttemptEnd, status: Recorded): void {
  if (status === "fenced-out") log.warn({ outcome: end.outcome }, "attempt had lost its fence");
  else if ("error" in end) log.warn({ outcome: end.outcome, status, error: end.error }, "attempt ended in an error");
}

/** A message of one task that has failed for good is an expected poison; several tasks have theirs in their rows. */
function settlementOf(ends: readonly TaskEnd[]): Settlement {
  if (ends.includes("unbegun")) return abandon;
  const [only, ...others] = ends;
  const isFailure = others.length === 0 && typeof only === "object" && only.status === "failed" && "error" in only.end;
  if (!isFailure) return complete;
  const { error } = only.end;
  return { settle: "dead-letter", reason: "task-failed", description: `${error.code}: ${error.message}` };
}

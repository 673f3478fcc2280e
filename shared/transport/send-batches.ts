import type { Logger } from "pino";
import type { Message } from "../contracts/messages.ts";
import { createGroup } from "../group.ts";
import type { Db } from "../store/database.ts";
import { type Batch, firstSendLeaseMs, markSent, markUnsent } from "../store/outbox.ts";
import { withTimeLimit } from "../time-limit.ts";
import type { TransportName } from "../transports.ts";
import type { QueueNames } from "./queues.ts";
import type { OutgoingMessage, Transport } from "./transport.ts";

/** The transports that this process has open, and what their queues are called there. */
export type Transports = ReadonlyMap<TransportName, { readonly transport: Transport; readonly queues: QueueNames }>;

/** A broker that takes longer for a batch has failed, as far as the sender is concerned: it has others to send. */
const sendMs = 20_000;

/** The name by which the broker knows a queue of the outbox: jobs, stages and tasks have theirs, a stage's own is itself. */
export function queueName(queues: QueueNames, queue: string): string {
  return queue === "jobs" || queue === "stages" || queue === "tasks" ? queues[queue] : queue;
}

export interface Sender {
  readonly db: Db;
  /** Who holds the locks of the batches. */
  readonly sender: string;
  readonly transports: Transports;
  readonly log: Logger;
}

/**
 * Sends batches that this sender has locked, and marks them. Never rejects: what can't be sent or marked now stays in the outbox,
 * and the relay does it later. A crash between send and mark sends twice, which is harmless. Returns how many were sent.
 */
export async function sendBatches(
  { db, sender, transports, log }: Sender,
  batches: readonly Batch[],
  limitMs = sendMs,
): Promise<number> {
  if (batches.length === 0) return 0;
  // Each is marked as soon as it is sent, so that a small one doesn't wait for a large one, nor die with it.
  const mark = createGroup(async (ids: readonly number[]) => {
    await markSent(db, sender, ids);
    return ids;
  }, { maxSize: batches.length, isItemsFault: () => false });
  const sent = await Promise.all(batches.map(async (batch) => {
    const ids = { batchId: batch.batchId, jobId: batch.jobId, correlationId: batch.correlationId };
    let error: unknown;
    try {
      const open = transports.get(batch.transport);
      if (!open) throw new Error(`transport ${batch.transport} is not enabled here`);
      await withTimeLimit(open.transport.send(queueName(open.queues, batch.queue), createMessages(batch)), limitMs);
    } catch (thrown) {
      error = thrown ?? new Error("the transport gave no reason");
      log.warn({ ...ids, err: error }, "batch not sent");
    }
    try {
      if (error === undefined) await mark(batch.id);
      else await markUnsent(db, sender, [batch.id], (error instanceof Error ? error.message : String(error)).slice(0, 500));
    } catch (thrown) {
      log.warn({ ...ids, err: thrown }, "batch not marked; it will be sent again");
    }
    return error === undefined;
  }));
  return sent.filter(Boolean).length;
}

/**
 * The fast path: sends what was locked by the commit that inserted it, and takes no longer than that lock holds. A broker that has
 * not answered by then is the relay's to wait for.
 */
export async function sendFirst(sender: Sender, batches: readonly Batch[]): Promise<number> {
  return await sendBatches(sender, batches, firstSendLeaseMs);
}

/** The messages of a batch. Their ids name this sending of this row, and are never used again. */
export function createMessages(batch: Batch): readonly OutgoingMessage[] {
  const { jobId, correlationId, run, taskIds, tasksPerMessage } = batch;
  const header = { version: 1, jobId, correlationId, run } as const;
  const bodies: Message[] = [];
  if (batch.kind === "start-job") bodies.push({ ...header, kind: "start-job" });
  else if (batch.stageId === null) throw new Error(`batch ${batch.batchId} has no stage`);
  else if (batch.kind === "stage") bodies.push({ ...header, kind: "stage", stageId: batch.stageId });
  else {
    for (let start = 0; start < taskIds.length; start += tasksPerMessage) {
      bodies.push({
        ...header,
        kind: "tasks",
        stageId: batch.stageId,
        taskIds: taskIds.slice(start, start + tasksPerMessage),
      });
    }
  }
  return bodies.map((body, position) => ({
    messageId: `${batch.batchId}-o${batch.id}-n${batch.sends}-${position}`,
    body: JSON.stringify(body),
    correlationId,
    properties: { jobId, kind: body.kind },
  }));
}

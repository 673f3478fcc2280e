import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { createJudge } from "../../services/poison-handler/judge.ts";
import { createTakeIn } from "../../services/poison-handler/take-in.ts";
import { openClaimCheck } from "../../shared/claim-check/open.ts";
import type { Sql } from "../../shared/store/database.ts";
import { startJob, submitJob } from "../../shared/store/jobs.ts";
import { type Batch, claimHintBatches, claimTaskBatches, markSent } from "../../shared/store/outbox.ts";
import { findUnjudged } from "../../shared/store/poison.ts";
import { renewRunner } from "../../shared/store/runners.ts";
import { type ClaimedStage, insertTasks, sealStage } from "../../shared/store/stages.ts";
import { openMemoryTransport } from "../../shared/transport/memory.ts";
import { createMessages } from "../../shared/transport/send-batches.ts";
import type { LockedMessage, OutgoingMessage } from "../../shared/transport/transport.ts";
import type { TransportName } from "../../shared/transports.ts";

export const jobId = "d".repeat(64);
const graceMs = 1_000;
const silent = pino({ level: "silent" });

/** What a poison-handler does with dead letters, one at a time, on a broker in memory. */
export interface DeadLetters {
  /** Sends a message, lets it die for this reason, and gives back the dead letter, to be received again and again. */
  die(queue: string, message: OutgoingMessage, reason?: string, description?: string): Promise<LockedMessage>;
  /** Takes a dead letter in, as often as asked, and returns its record. */
  takeIn(queue: string, dead: LockedMessage): Promise<PoisonRow>;
  /** What a handler's round does about records that nobody has judged. */
  judgeTheRest(): Promise<void>;
  close(): Promise<void>;
}

export interface PoisonRow {
  readonly id: number;
  readonly origin: string;
  readonly verdict: string;
  readonly reason: string;
  readonly sightings: number;
  readonly fingerprint: string;
  readonly attempt: number | null;
  readonly body_head: string;
  readonly body_size: number;
  readonly body_ref: string | null;
  readonly job_id: string | null;
}

/** Long bodies are kept in `keptIn`, or in one that is removed at the end. */
export async function openDeadLetters(sql: Sql, keptIn?: string): Promise<DeadLetters> {
  const directory = keptIn ?? await mkdtemp(join(tmpdir(), "sluice-poison-"));
  const transport = openMemoryTransport();
  const judge = createJudge({ sql, id: "poison-1", graceMs, log: silent });
  const takeIn = createTakeIn({ sql, claimCheck: openClaimCheck({ directory }), judge });
  const { signal } = new AbortController();
  const delivery = { signal, log: silent, identify: () => {}, phase: () => {} };
  return {
    async die(queue, message, reason = "max-delivery-count", description = "delivery 11 of at most 10") {
      await transport.send(queue, [message]);
      const [live] = await transport.receive(queue, { max: 1, signal });
      await live?.moveToDeadLetters(reason, description);
      const [dead] = await transport.receive(queue, { max: 1, signal, from: "dead-letters" });
      if (!dead) throw new Error(`${message.messageId} is no dead letter`);
      return dead;
    },
    async takeIn(queue, dead) {
      await takeIn({ transport: "bullmq", queue })(dead, delivery);
      const [row] = await sql<
        PoisonRow[]
      >`select * from poison_messages where identity = ${dead.identity} or message_id = ${dead.messageId}
        order by id desc limit 1`;
      if (!row) throw new Error(`${dead.messageId} was not recorded`);
      return row;
    },
    async judgeTheRest() {
      for (const poisonId of await findUnjudged(sql, 100)) await judge(poisonId);
    },
    async close() {
      await transport.close();
      if (keptIn === undefined) await rm(directory, { recursive: true, force: true });
    },
  };
}

/** A job with one open, sealed stage, and the messages of its hints as they were sent. */
export async function sendStage(
  sql: Sql,
  { tasks = 1, tasksPerMessage = 1, processingPath = "bullmq" }: {
    tasks?: number;
    tasksPerMessage?: number;
    processingPath?: TransportName;
  } = {},
): Promise<{ stage: ClaimedStage; taskIds: readonly number[]; messages: readonly OutgoingMessage[] }> {
  const stage = await startedStage(sql, tasksPerMessage, processingPath);
  const parameters = Array.from({ length: tasks }, (_, number) => ({ number }));
  await insertTasks(sql, stage, { startIndex: 0, parameters, tasksPerMessage });
  await sealStage(sql, stage, tasks);
  await renewRunner(sql, { id: "runner", processingPath, queue: "tasks" });
  const rows = await sql<{ id: number }[]>`select id from tasks order by index`;
  return { stage, taskIds: rows.map(({ id }) => id), messages: await sendTasks(sql, processingPath) };
}

export async function startedStage(
  sql: Sql,
  tasksPerMessage = 1,
  processingPath: TransportName = "bullmq",
): Promise<ClaimedStage> {
  await queuedJob(sql, processingPath);
  const stage = await startJob(sql, "orchestrator/1", {
    jobId,
    run: 1,
    stage: { number: 1, name: "one", taskType: "t", queue: "tasks", tasksPerMessage, timeoutMs: 60_000, deadlineMs: null },
  });
  if (!stage) throw new Error("the job did not start");
  return stage;
}

/** The message that its start was hinted with. */
export async function queuedJob(sql: Sql, processingPath: TransportName = "bullmq"): Promise<OutgoingMessage> {
  const { batches } = await submitJob(sql, "api", {
    jobId,
    jobType: "j",
    parameters: {},
    processingPath,
    totalStages: 2,
    correlationId: "c",
  });
  await markSent(sql, "api", batches.map(({ id }) => id));
  return only(batches);
}

/** What the relay would send now, as sent. */
export async function sendTasks(sql: Sql, transport: TransportName = "bullmq"): Promise<readonly OutgoingMessage[]> {
  return await send(sql, await claimTaskBatches(sql, "relay", transport, { window: 10_000, limit: 100 }));
}

export async function sendHints(sql: Sql): Promise<readonly OutgoingMessage[]> {
  return await send(sql, await claimHintBatches(sql, "relay", "bullmq", 100));
}

async function send(sql: Sql, batches: readonly Batch[]): Promise<readonly OutgoingMessage[]> {
  await markSent(sql, "relay", batches.map(({ id }) => id));
  return batches.flatMap(createMessages);
}

function only(batches: readonly Batch[]): OutgoingMessage {
  const [message] = batches.flatMap(createMessages);
  if (!message) throw new Error("nothing was to be sent");
  return message;
}

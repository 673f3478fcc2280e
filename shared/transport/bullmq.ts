import { ErrorCode, type IQueueBackend, type JobJson } from "bullmq";
import { randomUUID } from "node:crypto";
import { checkBodies } from "./bodies.ts";
import type { BullmqLocks } from "./bullmq-broker.ts";
import { decodeJob, encodeDeadLetterJob, encodeJob, jobIdOf } from "./bullmq-job.ts";
import { openPostgresBroker } from "./bullmq-postgres.ts";
import { openRedisBroker } from "./bullmq-redis.ts";
import { deadLetterExceeded, defaultMaxDeliveryCount } from "./max-delivery-count.ts";
import { createMessageTurns } from "./message-turns.ts";
import { type LockedMessage, LockLostError, type Transport } from "./transport.ts";
import { pause, receiveWaitMs, settledOrAborted } from "./waiting.ts";

/** Redis if there is a URL of one, else PostgreSQL. */
export type BullmqConnection = { readonly redisUrl: string } | { readonly databaseUrl: string };

export interface BullmqOptions {
  /** Default: 10,000. */
  readonly lockMs?: number;
  /** A message delivered more often goes to the dead letters. Default: 10. */
  readonly maxDeliveryCount?: number;
}

/** Redis and PostgreSQL could hold more: as large as a message of Service Bus, for which BullMQ stands in. */
const maxBodyBytes = 262_144;
/** Claims at a time of one receive: BullMQ has no bulk claim. */
const claimConcurrency = 8;

/**
 * BullMQ. A message is a job that is removed when settled; the dead letters of `<queue>` are in `<queue>-dead`. Works on BullMQ's
 * backends, as its Worker wants to run handlers and renew locks itself, and parses the data of a job before anybody could settle it.
 */
export function openBullmqTransport(connection: BullmqConnection, options: BullmqOptions = {}): Transport {
  const lockMs = options.lockMs ?? 10_000;
  const maxDeliveryCount = options.maxDeliveryCount ?? defaultMaxDeliveryCount;
  // A lock that expired is noticed by the next check. BullMQ's own limit would fail the job.
  const stalledInterval = Math.min(Math.max(Math.floor(lockMs / 3), 200), 5_000);
  const locks: BullmqLocks = { lockDuration: lockMs, stalledInterval, maxStalledCount: 2 ** 31 - 1 };
  const broker = "redisUrl" in connection
    ? openRedisBroker(connection.redisUrl, locks)
    : openPostgresBroker(connection.databaseUrl, locks);
  const closing = new AbortController();
  const running = new Set<Promise<unknown>>();
  const arrivals = new Map<string, Promise<void>>();
  const checked = new Set<string>();

  function track<Result>(promise: Promise<Result>): Promise<Result> {
    running.add(promise);
    return promise.finally(() => running.delete(promise));
  }

  /** One wait for all receives of a queue in this process. */
  function arrivalOf(queue: string): Promise<void> {
    const waiting = arrivals.get(queue);
    if (waiting) return waiting;
    const arrival = broker.arrival(queue)
      .catch(() => pause(250, closing.signal)) // the claim that follows will say what is wrong
      .finally(() => arrivals.delete(queue));
    arrivals.set(queue, arrival);
    return arrival;
  }

  /** Makes jobs whose lock expired available again, for as long as this process receives from the queue. */
  function startStalledChecks(queue: string): void {
    if (checked.has(queue)) return;
    checked.add(queue);
    const check = async () => {
      while (!closing.signal.aborted) {
        // The check after a failed one does all the work.
        await broker.backend(queue).then((backend) => backend.moveStalledJobsToWait()).catch(() => {});
        await pause(stalledInterval, closing.signal);
      }
    };
    void track(check());
  }

  async function claim(queue: string, source: string, max: number, signal: AbortSignal): Promise<readonly LockedMessage[]> {
    const backend = await broker.backend(source);
    const deadLetters = source === queue ? await broker.backend(deadQueueOf(queue)) : undefined;
    const claimed: LockedMessage[] = [];
    let claims = 0;
    const claimOne = async () => {
      claims += 1;
      const token = randomUUID();
      const [job, id] = await backend.moveToActive(token);
      if (!job) return false;
      claimed.push(lockedMessage(job, { backend, deadLetters, id: String(id), token, lockMs }));
      return true;
    };
    const claimOthers = async () => {
      while (claims < max && !signal.aborted && await claimOne());
    };
    if (!await claimOne()) return [];
    // What is locked is returned, even if the broker goes away meanwhile; the next call will say so.
    await Promise.allSettled(Array.from({ length: claimConcurrency }, claimOthers));
    return source === queue ? await deadLetterExceeded(claimed, maxDeliveryCount) : claimed;
  }

  async function receiveFrom(queue: string, source: string, max: number, signal: AbortSignal): Promise<readonly LockedMessage[]> {
    const stop = AbortSignal.any([signal, closing.signal, AbortSignal.timeout(receiveWaitMs)]);
    startStalledChecks(source);
    while (!stop.aborted) {
      const messages = await claim(queue, source, max, stop);
      if (messages.length > 0) return messages;
      await settledOrAborted(arrivalOf(source), stop);
    }
    return [];
  }

  return {
    name: "bullmq",
    lockMs,
    maxBodyBytes,
    async provision(queues) {
      // Queues come into being with their first job; on PostgreSQL this makes the schema.
      await Promise.all(queues.map((queue) => broker.backend(queue)));
    },
    async send(queue, messages) {
      checkBodies(messages, maxBodyBytes);
      if (messages.length === 0) return;
      const now = Date.now();
      const backend = await broker.backend(queue);
      await backend.addJobs(messages.map((message) => {
        const jobId = jobIdOf(message.messageId);
        return { job: encodeJob(jobId, message, now), jobId };
      }));
    },
    async receive(queue, { max, signal, from = "queue" }) {
      if (closing.signal.aborted) throw new Error("the transport bullmq is closed");
      return await track(receiveFrom(queue, from === "queue" ? queue : deadQueueOf(queue), max, signal));
    },
    async counts(queue) {
      const [active, deadLettered] = await Promise.all([
        countJobs(await broker.backend(queue)),
        countJobs(await broker.backend(deadQueueOf(queue))),
      ]);
      return { active, deadLettered };
    },
    async purge(queue) {
      for (const name of [queue, deadQueueOf(queue)]) await deleteJobs(await broker.backend(name));
    },
    async close() {
      closing.abort();
      await Promise.allSettled(running);
      await broker.close();
    },
  };
}

function deadQueueOf(queue: string): string {
  return `${queue}-dead`;
}

interface Claim {
  readonly backend: IQueueBackend;
  /** Undefined for a message that is a dead letter already. */
  readonly deadLetters: IQueueBackend | undefined;
  readonly id: string;
  readonly token: string;
  readonly lockMs: number;
}

function lockedMessage(job: JobJson, { backend, deadLetters, id, token, lockMs }: Claim): LockedMessage {
  const { messageId, body, deadLettered } = decodeJob(id, job.data);
  const turns = createMessageTurns(messageId);
  const extendLock = async () => {
    const extended = await backend.extendLock(id, token, lockMs);
    if (!extended) throw new LockLostError(`the lock of message ${messageId} is lost`);
  };
  const remove = () => throwingLockLost(messageId, () => removeJob(backend, id, token));
  return {
    messageId,
    identity: `${id}@${job.timestamp}`, // the ids of settled jobs may come again
    body,
    deliveryCount: job.attemptsStarted, // BullMQ counts every claim, whatever ended the one before
    ...(deadLettered && { deadLettered }),
    renewLock: () => turns.renew(extendLock),
    complete: () => turns.settle(remove),
    // To the front, where it came from.
    abandon: () => turns.settle(() => throwingLockLost(messageId, () => backend.retryJob(id, true, token))),
    moveToDeadLetters: (reason, description) =>
      turns.settle(async () => {
        if (!deadLetters) throw new Error(`message ${messageId} is a dead letter already`);
        await extendLock(); // no copy of a message that isn't ours any more, and time to make one
        // The same for a second try at this sending, another for a later sending under the same id.
        const deadId = `${id.replaceAll(":", "%3A")}-${job.timestamp}`;
        const enqueuedAt = new Date(job.timestamp).toISOString();
        const deadLettered = { reason, description, deliveryCount: job.attemptsStarted, enqueuedAt };
        await deadLetters.addJobs([{ job: encodeDeadLetterJob(deadId, { messageId, body }, deadLettered), jobId: deadId }]);
        await remove();
      }),
  };
}

const lockLostCodes: readonly unknown[] = [
  ErrorCode.JobNotExist,
  ErrorCode.JobLockNotExist,
  ErrorCode.JobNotInState,
  ErrorCode.JobLockMismatch,
];

async function throwingLockLost(messageId: string, call: () => Promise<void>): Promise<void> {
  try {
    await call();
  } catch (error) {
    throw isLockLost(error) ? new LockLostError(`the lock of message ${messageId} is lost`, { cause: error }) : error;
  }
}

function isLockLost(error: unknown): boolean {
  return error instanceof Error && "code" in error && lockLostCodes.includes(error.code);
}

/** BullMQ's word for a token that fits every lock. */
const anyToken = "0";

async function removeJob(backend: IQueueBackend, id: string, token: string): Promise<void> {
  // Both backends read no more of a job than its id and options.
  const job = { id, opts: {} } as Parameters<IQueueBackend["moveToCompleted"]>[0];
  await backend.moveToCompleted(job, null, true, token, false);
}

async function countJobs(backend: IQueueBackend): Promise<number> {
  const counts = await backend.getCounts(["wait", "active", "prioritized", "delayed"]);
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Unlike BullMQ's `obliterate`, doesn't pause the queue: a process that died half-way would leave it paused. */
async function deleteJobs(backend: IQueueBackend): Promise<void> {
  await backend.drain(true);
  const [locked = []] = await backend.getRanges(["active"]);
  for (const id of locked) {
    await removeJob(backend, id, anyToken).catch((error) => {
      if (!isLockLost(error)) throw error; // settled meanwhile
    });
  }
  for (const state of ["completed", "failed"]) await backend.cleanJobsByState(state, Date.now(), 0);
}

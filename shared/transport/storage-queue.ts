import type { TokenCredential } from "@azure/identity";
import {
  type DequeuedMessageItem,
  type QueueClient,
  QueueServiceClient,
  RestError,
  type StoragePipelineOptions,
} from "@azure/storage-queue";
import { checkBodies } from "./bodies.ts";
import { IdleDelay } from "./idle-delay.ts";
import { deadLetterExceeded, defaultMaxDeliveryCount } from "./max-delivery-count.ts";
import { createMessageTurns } from "./message-turns.ts";
import { decodeText, encodeDeadLetter, encodeMessage, maxBodyBytes } from "./storage-queue-text.ts";
import { type LockedMessage, LockLostError, type Transport } from "./transport.ts";
import { receiveWaitMs } from "./waiting.ts";

/** Where the account is. */
export type StorageQueueAccount =
  | { readonly connectionString: string }
  | { readonly accountUrl: string; readonly credential: TokenCredential };

export interface StorageQueueOptions {
  /** Rounded up to whole seconds. Default: 12,000. */
  readonly lockMs?: number;
  /** A message delivered more often goes to the dead letters. Default: 10. */
  readonly maxDeliveryCount?: number;
}

/** The service gives no more in one request. */
const maxPerReceive = 32;
/** Requests at a time of one send: there is no batch. */
const sendConcurrency = 16;
const messageDays = 14;
/** Of one call, its retries included. The SDK's own limit is for the service: it doesn't end a connection that has fallen silent. */
const callMs = 20_000;
const pipelineOptions: StoragePipelineOptions = {
  retryOptions: { maxTries: 4, retryDelayInMs: 100, maxRetryDelayInMs: 2_000, tryTimeoutInMs: 15_000 },
};

/**
 * Azure Queue Storage. One client for all queues; dead letters of `<queue>` are in `<queue>-poison`. No request under way is ever
 * aborted, as its answer may hold messages that are locked by then; only waiting is.
 */
export function openStorageQueueTransport(account: StorageQueueAccount, options: StorageQueueOptions = {}): Transport {
  const service = createQueueServiceClient(account);
  const lockSeconds = Math.ceil((options.lockMs ?? 12_000) / 1_000);
  const maxDeliveryCount = options.maxDeliveryCount ?? defaultMaxDeliveryCount;
  const closing = new AbortController();
  const receiving = new Set<Promise<unknown>>();
  const queues = new Map<string, { client: QueueClient; idle: IdleDelay }>();

  function queueOf(name: string) {
    const known = queues.get(name);
    if (known) return known;
    const opened = { client: service.getQueueClient(name), idle: new IdleDelay() };
    queues.set(name, opened);
    return opened;
  }

  /** The SDK says of a missing queue no more than "Unexpected status code: 404". */
  async function namingQueue<Result>(queue: string, call: (abortSignal: AbortSignal) => Promise<Result>): Promise<Result> {
    try {
      return await call(AbortSignal.timeout(callMs));
    } catch (error) {
      if (error instanceof RestError && error.statusCode === 404) throw new Error(`there is no queue ${queue}`, { cause: error });
      throw error;
    }
  }

  async function receiveFrom(queue: string, source: string, max: number, signal: AbortSignal): Promise<readonly LockedMessage[]> {
    const { client, idle } = queueOf(source);
    const stop = AbortSignal.any([signal, closing.signal, AbortSignal.timeout(receiveWaitMs)]);
    const poisonQueue = source === queue ? queueOf(poisonQueueOf(queue)) : undefined;
    return await idle.poll(async () => {
      const { receivedMessageItems } = await namingQueue(source, (abortSignal) =>
        client.receiveMessages({
          abortSignal,
          numberOfMessages: Math.min(max, maxPerReceive),
          visibilityTimeout: lockSeconds,
        }));
      const messages = receivedMessageItems.map((item) => lockedMessage(item, { client, idle, lockSeconds, poisonQueue }));
      return poisonQueue ? await deadLetterExceeded(messages, maxDeliveryCount) : messages;
    }, stop);
  }

  return {
    name: "storage_queue",
    lockMs: lockSeconds * 1_000,
    maxBodyBytes,
    async provision(names) {
      await Promise.all(
        names.flatMap((name) => [name, poisonQueueOf(name)]).map((name) => queueOf(name).client.createIfNotExists()),
      );
    },
    async send(queue, messages) {
      checkBodies(messages, maxBodyBytes);
      const texts = messages.map(encodeMessage);
      const { client, idle } = queueOf(queue);
      const left = texts.values();
      const sendNext = async () => {
        for (const text of left) {
          await namingQueue(
            queue,
            (abortSignal) => client.sendMessage(text, { messageTimeToLive: messageDays * 86_400, abortSignal }),
          );
        }
      };
      await Promise.all(Array.from({ length: Math.min(sendConcurrency, texts.length) }, sendNext));
      idle.wake();
    },
    async receive(queue, { max, signal, from = "queue" }) {
      if (closing.signal.aborted) throw new Error("the transport storage_queue is closed");
      const receive = receiveFrom(queue, from === "queue" ? queue : poisonQueueOf(queue), max, signal);
      receiving.add(receive);
      return await receive.finally(() => receiving.delete(receive));
    },
    async counts(queue) {
      const [active, poison] = await Promise.all([
        queueOf(queue).client.getProperties(),
        queueOf(poisonQueueOf(queue)).client.getProperties(),
      ]);
      return { active: active.approximateMessagesCount ?? 0, deadLettered: poison.approximateMessagesCount ?? 0 };
    },
    async purge(queue) {
      await Promise.all([queueOf(queue).client.clearMessages(), queueOf(poisonQueueOf(queue)).client.clearMessages()]);
    },
    async close() {
      closing.abort();
      await Promise.allSettled(receiving);
    },
  };
}

/** Connects with the first call. Throws if the connection string isn't one. */
export function createQueueServiceClient(account: StorageQueueAccount): QueueServiceClient {
  return "connectionString" in account
    ? QueueServiceClient.fromConnectionString(account.connectionString, pipelineOptions)
    : new QueueServiceClient(account.accountUrl, account.credential, pipelineOptions);
}

/** Where the dead letters of a queue go. */
export function poisonQueueOf(queue: string): string {
  return `${queue}-poison`;
}

interface Source {
  readonly client: QueueClient;
  readonly idle: IdleDelay;
  readonly lockSeconds: number;
  /** Undefined for a message that is a dead letter already. */
  readonly poisonQueue: { readonly client: QueueClient; readonly idle: IdleDelay } | undefined;
}

function lockedMessage(item: DequeuedMessageItem, { client, idle, lockSeconds, poisonQueue }: Source): LockedMessage {
  const { messageId = item.messageId, body, deadLettered, ...decoded } = decodeText(item.messageText);
  // A dead letter that somebody puts back into its queue by hand is another message there.
  const identity = poisonQueue ? item.messageId : decoded.identity ?? item.messageId;
  const turns = createMessageTurns(messageId);
  let popReceipt = item.popReceipt; // every update gives a new one and voids the one before
  const lockFor = async (seconds: number) => {
    const limit = { abortSignal: AbortSignal.timeout(callMs) };
    const updated = await client.updateMessage(item.messageId, popReceipt, undefined, seconds, limit); // no text: the body stays
    popReceipt = updated.popReceipt ?? popReceipt;
  };
  const remove = async () => {
    await client.deleteMessage(item.messageId, popReceipt, { abortSignal: AbortSignal.timeout(callMs) });
  };

  return {
    messageId,
    identity,
    body,
    deliveryCount: item.dequeueCount,
    ...(deadLettered && { deadLettered }),
    renewLock: () => turns.renew(() => throwingLockLost(messageId, () => lockFor(lockSeconds))),
    complete: () => turns.settle(() => throwingLockLost(messageId, remove)),
    abandon: () =>
      turns.settle(async () => {
        await throwingLockLost(messageId, () => lockFor(0));
        idle.wake();
      }),
    moveToDeadLetters: (reason, description) =>
      turns.settle(async () => {
        if (!poisonQueue) throw new Error(`message ${messageId} is a dead letter already`);
        // No copy of a message that isn't ours any more, and time to make one.
        await throwingLockLost(messageId, () => lockFor(lockSeconds));
        const text = encodeDeadLetter({ messageId, body }, {
          reason,
          description,
          deliveryCount: item.dequeueCount,
          enqueuedAt: item.insertedOn.toISOString(),
          identity,
        });
        await poisonQueue.client.sendMessage(text ?? item.messageText, {
          messageTimeToLive: -1,
          abortSignal: AbortSignal.timeout(callMs),
        });
        poisonQueue.idle.wake();
        await throwingLockLost(messageId, remove);
      }),
  };
}

const lockLostCodes = new Set(["MessageNotFound", "PopReceiptMismatch"]);

async function throwingLockLost(messageId: string, call: () => Promise<void>): Promise<void> {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof RestError) || !lockLostCodes.has(error.code ?? "")) throw error;
    throw new LockLostError(`the lock of message ${messageId} is lost`, { cause: error });
  }
}

import type { ServiceBusReceivedMessage } from "@azure/service-bus";
import { type Logger, pino } from "pino";
import { withTimeLimit } from "../time-limit.ts";
import { checkBodies } from "./bodies.ts";
import { defaultMaxDeliveryCount } from "./max-delivery-count.ts";
import { createMessageTurns } from "./message-turns.ts";
import { createServiceBusClient, type ServiceBusAccount } from "./service-bus-account.ts";
import { closeReceiver, createConnection, createConnectionSlot, type Source } from "./service-bus-connection.ts";
import { ServiceBusCallError } from "./service-bus-errors.ts";
import { createLinkPool } from "./service-bus-links.ts";
import { countDelivery, deadLetterTexts, decodeMessage, encodeMessage, maxBodyBytes } from "./service-bus-message.ts";
import { createQueueAdministration } from "./service-bus-queues.ts";
import { openSender, sendInBatches } from "./service-bus-send.ts";
import { type Outcome, type Received, renewLock, settleMessage } from "./service-bus-settle.ts";
import { createThrottle } from "./service-bus-throttle.ts";
import { type LockedMessage, LockLostError, type Transport } from "./transport.ts";
import { receiveWaitMs } from "./waiting.ts";

export interface ServiceBusOptions {
  /** Of the queues that it creates; one that is there has its own, which it finds out. Default, and Azure's maximum: 300,000. */
  readonly lockMs?: number;
  /** Of the queues that it creates. Default: 10. */
  readonly maxDeliveryCount?: number;
  /** How long a message is kept that nobody takes. Default: as long as its queue says. */
  readonly timeToLiveMs?: number;
  /** Where it tells that it connects anew. */
  readonly log?: Logger;
}

/** How long closing waits for what still goes on; locks expire by themselves. */
const closeLimitMs = 1_000;
const purgeBatch = 500;

/**
 * Azure Service Bus. One client, and a second one from the first time that a message must be settled by its lock token. It pulls:
 * every wait for messages has an end that must come, so a receiver that has fallen silent is noticed.
 */
export function openServiceBusTransport(account: ServiceBusAccount, options: ServiceBusOptions = {}): Transport {
  const { lockMs = 300_000, maxDeliveryCount = defaultMaxDeliveryCount, log = pino({ level: "silent" }) } = options;
  const open = () => createConnection(createServiceBusClient(account), log);
  const connections = createConnectionSlot(open);
  const settling = { connections, settlers: createConnectionSlot(open), answerMs: Math.min(3_000, lockMs / 4) };
  const administration = createQueueAdministration(account);
  const throttle = createThrottle();
  const closing = new AbortController();
  const sending = { connections, throttle, signal: closing.signal };
  const receiving = new Set<Promise<unknown>>();
  const links = createLinkPool(connections, giveBack);
  /** Messages that are locked here, by queue. */
  const held = new Map<string, Set<LockedMessage>>();
  /** How long the queues really lock, where that is less than they should. */
  const shortLocks = new Map<string, number>();
  connections.current(); // a connection string that isn't one is refused here; nothing is connected

  async function giveBack(received: Received): Promise<void> {
    await settleMessage(received, abandonment(received), settling).finally(() => received.link.release());
  }

  async function receiveFrom(source: Source, max: number, signal: AbortSignal): Promise<readonly LockedMessage[]> {
    const stop = AbortSignal.any([signal, closing.signal, AbortSignal.timeout(receiveWaitMs)]);
    await throttle.pass(stop);
    if (stop.aborted) return [];
    try {
      return await links.use(source, async (link) => {
        const messages = await link.receive(max, stop);
        return messages.map((message) => lock({ message, source, link }));
      });
    } catch (error) {
      if (error instanceof ServiceBusCallError && error.isBusy) throttle.slowDown();
      throw error;
    }
  }

  function lock(received: Received): LockedMessage {
    const { queue } = received.source;
    noteLock(queue, received.message);
    const own = held.get(queue) ?? new Set();
    held.set(queue, own);
    const message = lockedMessage(received, {
      renew: () => renewLock(received, settling),
      settle: (outcome) => settleMessage(received, outcome, settling),
      end() {
        own.delete(message);
        received.link.release();
      },
    });
    own.add(message);
    return message;
  }

  /** By two clocks, so roughly: a lock that is about as long as it should be is taken for that. */
  function noteLock(queue: string, { lockedUntilUtc }: ServiceBusReceivedMessage): void {
    const lockedMs = lockedUntilUtc ? lockedUntilUtc.getTime() - Date.now() : lockMs;
    if (lockedMs >= lockMs * 0.8) shortLocks.delete(queue);
    else shortLocks.set(queue, Math.max(1_000, lockedMs));
  }

  async function deleteAll(source: Source): Promise<void> {
    const connection = connections.current();
    const receiver = connection.openReceiver(source, "receiveAndDelete");
    const deleteSome = () =>
      connection.call(`purging ${source.queue}`, () => receiver.receiveMessages(purgeBatch, { maxWaitTimeInMs: 200 }));
    try {
      while ((await deleteSome()).length > 0);
    } finally {
      await closeReceiver(receiver);
    }
  }

  /** Where they are forwarded, they aren't in this queue, and Service Bus lets nobody receive them from it. */
  async function deleteDeadLetters(queue: string): Promise<void> {
    try {
      await deleteAll({ queue, from: "dead-letters" });
    } catch (error) {
      if (!await administration.forwardsDeadLetters(queue)) throw error;
    }
  }

  return {
    name: "service_bus",
    get lockMs() {
      return Math.min(lockMs, ...shortLocks.values());
    },
    maxBodyBytes,
    async provision(queues) {
      await Promise.all(queues.map(async (queue) => {
        await administration.provide(queue, { lockMs, maxDeliveryCount });
        await openSender(queue, sending);
      }));
    },
    async send(queue, messages) {
      checkBodies(messages, maxBodyBytes);
      await sendInBatches(queue, messages.map((message) => encodeMessage(message, options)), sending);
    },
    async receive(queue, { max, signal, from = "queue" }) {
      if (closing.signal.aborted) throw new Error("the transport service_bus is closed");
      const receive = receiveFrom({ queue, from }, max, signal);
      receiving.add(receive);
      return await receive.finally(() => receiving.delete(receive));
    },
    counts: (queue) => administration.counts(queue),
    async purge(queue) {
      // What others have locked can't be deleted.
      await Promise.allSettled([...held.get(queue) ?? []].map((message) => message.complete()));
      await Promise.all([deleteAll({ queue, from: "queue" }), deleteDeadLetters(queue)]);
    },
    async close() {
      closing.abort();
      await withTimeLimit(Promise.allSettled(receiving).then(() => links.close()), closeLimitMs).catch(() => {});
      await Promise.all([connections.close(), settling.settlers.close()]);
    },
  };
}

interface Lock {
  renew(): Promise<void>;
  settle(outcome: Outcome): Promise<void>;
  /** The message is no longer ours. */
  end(): void;
}

function lockedMessage(received: Received, { renew, settle, end }: Lock): LockedMessage {
  const decoded = decodeMessage(received.message, received.source.from);
  const { messageId } = decoded;
  const turns = createMessageTurns(messageId);
  let lost = false;
  const settleOnce = (outcome: Outcome) =>
    turns.settle(async () => {
      if (lost) throw new LockLostError(`the lock of message ${messageId} is lost`);
      try {
        await settle(outcome);
      } catch (error) {
        lost = error instanceof LockLostError;
        if (lost) end();
        throw error;
      }
      end();
    });
  return {
    ...decoded,
    renewLock: () => turns.renew(renew),
    complete: () => settleOnce({ settle: "complete" }),
    abandon: () => settleOnce(abandonment(received)),
    async moveToDeadLetters(reason, description) {
      if (received.source.from === "dead-letters") throw new Error(`message ${messageId} is a dead letter already`);
      await settleOnce({ settle: "dead-letter", ...deadLetterTexts(reason, description) });
    },
  };
}

function abandonment({ message, source }: Received): Outcome {
  return source.from === "queue" ? { settle: "abandon" } : { settle: "abandon", properties: countDelivery(message) };
}

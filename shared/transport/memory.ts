import { randomUUID } from "node:crypto";
import type { TransportName } from "../transports.ts";
import { checkBodies } from "./bodies.ts";
import { deadLetterExceeded, defaultMaxDeliveryCount } from "./max-delivery-count.ts";
import { type LockedMessage, LockLostError, type OutgoingMessage, type Transport } from "./transport.ts";
import { pause, receiveWaitMs } from "./waiting.ts";

interface Entry extends OutgoingMessage {
  readonly identity: string;
  deliveryCount: number;
  /** Undefined while it waits. */
  lock: { readonly token: string; readonly until: number } | undefined;
  readonly deadLettered?: { readonly reason: string; readonly description: string };
}

class MemoryQueue {
  readonly entries: Entry[] = [];
  #arrival = new AbortController();

  /** Aborts when there is something new to look at. */
  get arrival(): AbortSignal {
    return this.#arrival.signal;
  }

  announce(): void {
    this.#arrival.abort();
    this.#arrival = new AbortController();
  }

  remove(entry: Entry): void {
    this.entries.splice(this.entries.indexOf(entry), 1);
  }
}

/** What several memory transports share, as processes share a real broker. */
export class MemoryBroker {
  readonly #queues = new Map<string, { live: MemoryQueue; dead: MemoryQueue }>();

  queue(name: string): { readonly live: MemoryQueue; readonly dead: MemoryQueue } {
    let queue = this.#queues.get(name);
    if (!queue) this.#queues.set(name, queue = { live: new MemoryQueue(), dead: new MemoryQueue() });
    return queue;
  }
}

export interface MemoryTransportOptions {
  /** The transport it stands for. Default: `bullmq`. */
  readonly name?: TransportName;
  /** Default: one that no other transport sees. */
  readonly broker?: MemoryBroker;
  readonly lockMs?: number;
  readonly maxBodyBytes?: number;
  readonly maxDeliveryCount?: number;
}

/** A transport for unit tests: keeps the whole contract, and nothing beyond the process. */
export function openMemoryTransport(options: MemoryTransportOptions = {}): Transport {
  const { name = "bullmq", broker = new MemoryBroker(), lockMs = 15_000, maxBodyBytes = 262_144 } = options;
  const maxDeliveryCount = options.maxDeliveryCount ?? defaultMaxDeliveryCount;
  const closing = new AbortController();

  function claim(queue: MemoryQueue, max: number, dead: MemoryQueue | undefined): readonly LockedMessage[] {
    const now = Date.now();
    const claimed = queue.entries.filter(({ lock }) => lock === undefined || lock.until <= now).slice(0, max);
    return claimed.map((entry) => {
      entry.deliveryCount += 1;
      entry.lock = { token: randomUUID(), until: now + lockMs };
      return lockedMessage(entry, { queue, dead, lockMs });
    });
  }

  return {
    name,
    lockMs,
    maxBodyBytes,
    async provision(queues) {
      for (const queue of queues) broker.queue(queue);
    },
    async send(queue, messages) {
      checkBodies(messages, maxBodyBytes);
      const { live } = broker.queue(queue);
      live.entries.push(
        ...messages.map(({ messageId, body }) => ({
          identity: randomUUID(),
          messageId,
          body,
          deliveryCount: 0,
          lock: undefined,
        })),
      );
      live.announce();
    },
    async receive(queueName, { max, signal, from = "queue" }) {
      if (closing.signal.aborted) throw new Error("the memory transport is closed");
      const { live, dead } = broker.queue(queueName);
      const queue = from === "queue" ? live : dead;
      const stop = AbortSignal.any([signal, closing.signal, AbortSignal.timeout(receiveWaitMs)]);
      while (!stop.aborted) {
        const claimed = from === "queue"
          ? await deadLetterExceeded(claim(queue, max, dead), maxDeliveryCount)
          : claim(queue, max, undefined);
        if (claimed.length > 0) return claimed;
        const nextExpiry = Math.min(...queue.entries.map(({ lock }) => lock?.until ?? Date.now()), Date.now() + receiveWaitMs);
        await pause(Math.max(1, nextExpiry - Date.now()), AbortSignal.any([stop, queue.arrival]));
      }
      return [];
    },
    async counts(queue) {
      const { live, dead } = broker.queue(queue);
      return { active: live.entries.length, deadLettered: dead.entries.length };
    },
    async purge(queue) {
      const { live, dead } = broker.queue(queue);
      for (const { entries } of [live, dead]) entries.splice(0);
    },
    async close() {
      closing.abort();
    },
  };
}

function lockedMessage(
  entry: Entry,
  { queue, dead, lockMs }: { queue: MemoryQueue; dead: MemoryQueue | undefined; lockMs: number },
): LockedMessage {
  const { messageId, identity, body, deliveryCount, deadLettered } = entry;
  const token = entry.lock?.token;
  const checkLock = () => {
    const held = queue.entries.includes(entry) && entry.lock !== undefined && entry.lock.token === token &&
      entry.lock.until > Date.now();
    if (!held) throw new LockLostError(`the lock of message ${messageId} is lost`);
  };
  return {
    messageId,
    identity,
    body,
    deliveryCount,
    ...(deadLettered && { deadLettered }),
    async renewLock() {
      checkLock();
      entry.lock = { token: token ?? "", until: Date.now() + lockMs };
    },
    async complete() {
      checkLock();
      queue.remove(entry);
    },
    async abandon() {
      checkLock();
      entry.lock = undefined;
      queue.announce();
    },
    async moveToDeadLetters(reason, description) {
      if (!dead) throw new Error(`message ${messageId} is a dead letter already`);
      checkLock();
      const deadLettered = { reason, description };
      dead.entries.push({ identity: randomUUID(), messageId, body, deliveryCount: 0, lock: undefined, deadLettered });
      dead.announce();
      queue.remove(entry);
    },
  };
}

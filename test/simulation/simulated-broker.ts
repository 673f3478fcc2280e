import { defaultQueues } from "../../shared/transport/queues.ts";
import type { Transports } from "../../shared/transport/send-batches.ts";
import { type LockedMessage, LockLostError, type OutgoingMessage, type Transport } from "../../shared/transport/transport.ts";
import type { OperationOptions, SimulatedProcess, World } from "./world.ts";

/** How likely each cruelty is, per message. */
export interface BrokerCruelty {
  readonly lost: number;
  readonly doubled: number;
  readonly delayed: number;
  /** A second copy arrives with a damaged body. */
  readonly garbled: number;
}

interface Entry extends OutgoingMessage {
  deliveryCount: number;
  visibleAt: number;
  lock: { readonly until: number } | null;
}

interface SimulatedQueue {
  readonly entries: Entry[];
  deadLettered: number;
}

export const queues = defaultQueues.bullmq;
const lockMs = 15_000;
const maxDeliveryCount = 10;

/**
 * A broker that keeps no promise but at-least-once, and in chaos not even that. Messages come in any order. Nobody reads its dead
 * letters: what ends there is lost, as far as the pipeline can tell.
 */
export class SimulatedBroker {
  readonly #world: World;
  readonly #queues = new Map<string, SimulatedQueue>();
  /** Drops messages whose id was seen before, as duplicate detection does. */
  readonly #detectsDuplicates: boolean;
  readonly #seen = new Set<string>();
  cruelty: BrokerCruelty = { lost: 0, doubled: 0, delayed: 0, garbled: 0 };

  constructor(world: World, { detectsDuplicates }: { detectsDuplicates: boolean }) {
    this.#world = world;
    this.#detectsDuplicates = detectsDuplicates;
  }

  #queue(name: string): SimulatedQueue {
    let queue = this.#queues.get(name);
    if (!queue) this.#queues.set(name, queue = { entries: [], deadLettered: 0 });
    return queue;
  }

  get messages(): number {
    return [...this.#queues.values()].reduce((sum, { entries }) => sum + entries.length, 0);
  }

  /** A lock expires before its time, as after a failover. */
  expireLock(): void {
    const locked = [...this.#queues.values()].flatMap(({ entries }) => entries.filter(({ lock }) => lock !== null));
    if (locked.length === 0) return;
    const entry = this.#world.random.pick(locked);
    entry.lock = null;
    this.#world.say(`broker lets the lock of ${entry.messageId} expire`);
  }

  #send(queueName: string, { messageId, body }: OutgoingMessage): void {
    const { random, now } = this.#world;
    const { entries } = this.#queue(queueName);
    if (this.#detectsDuplicates && this.#seen.has(messageId)) return this.#world.say(`broker knows ${messageId}, drops it`);
    this.#seen.add(messageId);
    if (random.chance(this.cruelty.lost)) return this.#world.say(`broker LOSES ${messageId}`);
    const visible = () => now + (random.chance(this.cruelty.delayed) ? random.integer(500, 30_000) : 0);
    entries.push({ messageId, body, deliveryCount: 0, visibleAt: visible(), lock: null });
    if (random.chance(this.cruelty.doubled)) {
      this.#world.say(`broker doubles ${messageId}`);
      entries.push({ messageId, body, deliveryCount: 0, visibleAt: visible(), lock: null });
    }
    if (random.chance(this.cruelty.garbled)) {
      const garbled = random.chance(0.5)
        ? body.slice(0, -1 - random.integer(0, body.length - 2))
        : body.replace('"version":1', '"version":7');
      this.#world.say(`broker garbles a copy of ${messageId}`);
      entries.push({ messageId, body: garbled, deliveryCount: 0, visibleAt: visible(), lock: null });
    }
  }

  #receivable(queueName: string): Entry[] {
    const { now } = this.#world;
    return this.#queue(queueName).entries.filter(({ visibleAt, lock }) => visibleAt <= now && (lock?.until ?? 0) <= now);
  }

  /** When the next message can be received that can't be now. */
  nextVisibleAt(): number {
    const times = [...this.#queues.values()].flatMap(({ entries }) =>
      entries.map(({ visibleAt, lock }) => Math.max(visibleAt, lock?.until ?? 0))
    );
    return Math.min(...times.filter((time) => time > this.#world.now));
  }

  #lock(process: SimulatedProcess, queueName: string, max: number): LockedMessage[] {
    const { random, now } = this.#world;
    const waiting = this.#receivable(queueName);
    const messages: LockedMessage[] = [];
    for (let left = random.integer(1, max); left > 0 && waiting.length > 0; left--) {
      const entry = random.pick(waiting);
      waiting.splice(waiting.indexOf(entry), 1);
      entry.deliveryCount++;
      if (entry.deliveryCount > maxDeliveryCount) {
        this.#deadLetter(queueName, entry, "max-delivery-count");
        continue;
      }
      entry.lock = { until: now + lockMs };
      messages.push(this.#lockedMessage(process, queueName, entry));
    }
    return messages;
  }

  #deadLetter(queueName: string, entry: Entry, reason: string): void {
    const queue = this.#queue(queueName);
    queue.entries.splice(queue.entries.indexOf(entry), 1);
    queue.deadLettered++;
    this.#world.say(`broker dead-letters ${entry.messageId}: ${reason}`);
  }

  #lockedMessage(process: SimulatedProcess, queueName: string, entry: Entry): LockedMessage {
    const world = this.#world;
    const { messageId, body, deliveryCount } = entry;
    const { entries } = this.#queue(queueName);
    let lock = entry.lock;
    const settle = (what: string, act: () => void) =>
      world.operate(process, "broker", `${what} ${messageId}`, async () => {
        if (!entries.includes(entry) || lock === null || entry.lock !== lock || lock.until <= world.now) {
          throw new LockLostError(`the lock of message ${messageId} is lost`);
        }
        act();
      });
    return {
      messageId,
      identity: messageId,
      body,
      deliveryCount,
      renewLock: () => settle("renew", () => (entry.lock = lock = { until: world.now + lockMs })),
      complete: () => settle("complete", () => entries.splice(entries.indexOf(entry), 1)),
      abandon: () => settle("abandon", () => (entry.lock = null)),
      moveToDeadLetters: (reason) => settle("dead-letter", () => this.#deadLetter(queueName, entry, reason)),
    };
  }

  /** The broker as one process reaches it. */
  open(process: SimulatedProcess): Transports {
    const world = this.#world;
    const operate = <Result>(label: string, execute: () => Result, options: OperationOptions = {}) =>
      world.operate(process, "broker", label, async () => execute(), options);
    const transport: Transport = {
      name: "bullmq",
      lockMs,
      maxBodyBytes: 262_144,
      async provision() {},
      send: (queue, messages) =>
        operate(`sends ${messages.map(({ messageId }) => shortId(messageId)).join(" ")}`, () => {
          for (const message of messages) this.#send(queue, message);
        }, { canBeLate: true }),
      receive: (queue, { max, signal }) =>
        operate(
          `receives from ${queue}`,
          () => signal.aborted ? [] : this.#lock(process, queue, max),
          { isReady: () => signal.aborted || this.#receivable(queue).length > 0 },
        ),
      counts: (queueName) =>
        operate(`counts ${queueName}`, () => {
          const { entries, deadLettered } = this.#queue(queueName);
          return { active: entries.length, deadLettered };
        }),
      async purge() {},
      async close() {},
    };
    return new Map([["bullmq", { transport, queues }]]);
  }
}

/** Without most of the job id. */
function shortId(messageId: string): string {
  return messageId.replace(/^[0-9a-f]{60}/, "");
}

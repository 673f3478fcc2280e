import type { MessageContent, QueueMessage } from "./message.ts";
import { createQueue, type Queue } from "./queue.ts";
import { entityNotFound, notAllowed, Refusal } from "./refusal.ts";
import { defaultQueueSettings, type QueueSettings } from "./settings.ts";
import type { Subqueue } from "./subqueue.ts";
import { refuseOfTier, type Tier } from "./tier.ts";

/** The queues by name, and what passes between them. Pure, as they are. */
export interface Namespace<Content> {
  create(name: string, settings: Partial<QueueSettings>, now: number): Queue<Content>;
  update(name: string, settings: Partial<QueueSettings>, now: number): Queue<Content>;
  delete(name: string): Queue<Content>;
  find(name: string): Queue<Content> | undefined;
  /** In the order in which they were made. */
  queues(): Queue<Content>[];
  advance(now: number): void;
  nextDeadline(): number;
}

export interface NamespaceHost<Content> {
  now(): number;
  createLockToken(): string;
  /** A message can be received there. */
  available(subqueue: Subqueue<Content>, queue: Queue<Content>): void;
  deadline(time: number): void;
}

const maxHops = 4;
/** When a queue that couldn't be forwarded to is tried again. */
const retryMs = 1_000;
const validName = /^[A-Za-z0-9](?:[\w\-./]*[A-Za-z0-9])?$/;

export function createNamespace<Content extends MessageContent>(tier: Tier, host: NamespaceHost<Content>): Namespace<Content> {
  const queues = new Map<string, Queue<Content>>();
  /** Dead letters that wait for room in the queue they are forwarded to. */
  const waiting = new Set<Queue<Content>>();
  let retryAt = Infinity;
  const forwarding = new Set<Queue<Content>>();

  function get(name: string): Queue<Content> {
    const queue = queues.get(name.toLowerCase());
    if (!queue) throw entityNotFound(name);
    return queue;
  }

  function check(name: string, { forwardTo, forwardDeadLetteredMessagesTo }: QueueSettings): void {
    for (const target of [forwardTo, forwardDeadLetteredMessagesTo]) {
      if (target === undefined) continue;
      if (target.toLowerCase() === name) throw badRequest(`Auto forwarding of '${name}' to itself is not allowed.`);
      if (!queues.has(target.toLowerCase())) throw badRequest(`Auto forwarding to '${target}' failed: it does not exist.`);
    }
  }

  function available(queue: Queue<Content>, subqueue: Subqueue<Content>): void {
    if (subqueue.isDeadLetters ? queue.settings.forwardDeadLetteredMessagesTo : queue.settings.forwardTo) {
      forward(queue, host.now());
    } else host.available(subqueue, queue);
  }

  function forward(queue: Queue<Content>, now: number): void {
    if (forwarding.has(queue)) return; // a loop further up takes what has come
    forwarding.add(queue);
    const { forwardTo, forwardDeadLetteredMessagesTo } = queue.settings;
    if (forwardTo !== undefined) forwardActive(queue, forwardTo, now);
    if (forwardDeadLetteredMessagesTo !== undefined) forwardDeadLetters(queue, forwardDeadLetteredMessagesTo, now);
    forwarding.delete(queue);
  }

  /** What can't be forwarded becomes a dead letter. */
  function forwardActive(queue: Queue<Content>, to: string, now: number): void {
    const target = queues.get(to.toLowerCase());
    for (let message = queue.active.take(now); message; message = queue.active.take(now)) {
      const refusal = target ? target.refusalOf([message.content]) : entityNotFound(to);
      if (message.hops >= maxHops) {
        const description = `The message was forwarded ${maxHops} times.`;
        queue.deadLetter(message, { reason: "MaxTransferHopCountExceeded", description }, now);
      } else if (refusal) queue.deadLetter(message, { reason: refusal.condition, description: refusal.message }, now);
      else target?.forwarded(message, {}, now);
    }
  }

  /** What finds no room stays, and is tried again. What was forwarded too often stays for good. */
  function forwardDeadLetters(queue: Queue<Content>, to: string, now: number): void {
    const target = queues.get(to.toLowerCase());
    const staying: QueueMessage<Content>[] = [];
    for (let message = queue.deadLetters.next(now); message; message = queue.deadLetters.next(now)) {
      const tooOften = message.hops >= maxHops;
      if (!tooOften && (!target || target.refusalOf([message.content]))) {
        waiting.add(queue);
        if (retryAt === Infinity) host.deadline(retryAt = now + retryMs);
        break;
      }
      queue.deadLetters.take(now);
      if (tooOften) staying.push(message);
      else target?.forwarded(message, { deadLetterSource: queue.name }, now);
    }
    for (const message of staying) queue.deadLetter(message, {}, now);
  }

  function retry(now: number): void {
    retryAt = Infinity;
    for (const queue of [...waiting]) {
      waiting.delete(queue);
      forward(queue, now);
    }
  }

  return {
    create(givenName, given, now) {
      const name = givenName.toLowerCase();
      if (name.length > 260 || !validName.test(name)) throw badRequest(`'${givenName}' is no name of a queue.`);
      if (queues.has(name)) {
        throw new Refusal(
          "com.microsoft:entity-already-exists",
          409,
          `SubCode=40900. Conflict. Entity '${givenName}' already exists.`,
        );
      }
      refuseOfTier(tier, given);
      const settings = { ...defaultQueueSettings, ...given };
      check(name, settings);
      const queue = createQueue<Content>(name, settings, {
        createdAt: now,
        createLockToken: host.createLockToken,
        deadline: host.deadline,
        available: (subqueue) => available(queue, subqueue),
      });
      queues.set(name, queue);
      forward(queue, now);
      return queue;
    },
    update(name, given, now) {
      const queue = get(name);
      refuseOfTier(tier, given);
      const settings = { ...queue.settings, ...given };
      if (settings.requiresDuplicateDetection !== queue.settings.requiresDuplicateDetection) {
        throw badRequest("The value for the RequiresDuplicateDetection property of an existing Queue cannot be changed.");
      }
      check(queue.name, settings);
      queue.settings = settings;
      queue.times.modifiedAt = now;
      forward(queue, now);
      return queue;
    },
    delete(name) {
      const queue = get(name);
      queues.delete(queue.name);
      waiting.delete(queue);
      return queue;
    },
    find: (name) => queues.get(name.toLowerCase()),
    queues: () => [...queues.values()],
    advance(now) {
      for (const queue of queues.values()) queue.advance(now);
      if (retryAt <= now) retry(now);
    },
    nextDeadline() {
      let next = retryAt;
      for (const queue of queues.values()) next = Math.min(next, queue.nextDeadline());
      return next;
    },
  };
}

/** Queues that forward can't be received from, nor can the dead letters of one that forwards those. */
export function refuseToReceive({ settings }: Queue<unknown>, { isDeadLetters }: Subqueue<unknown>): void {
  if (isDeadLetters ? settings.forwardDeadLetteredMessagesTo : settings.forwardTo) {
    throw notAllowed("Can not create a message receiver on an entity with auto-forwarding enabled.");
  }
}

function badRequest(description: string): Refusal {
  return new Refusal("com.microsoft:argument-error", 400, `SubCode=40000. ${description}`);
}

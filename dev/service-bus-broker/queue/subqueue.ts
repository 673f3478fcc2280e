import { createHeap, type HeapEntry } from "./heap.ts";
import type { LockedMessage, MessageContent, PropertyChanges, QueueMessage } from "./message.ts";
import { deferredNotFound, lockLost, notAllowed, scheduledNotFound } from "./refusal.ts";
import { createSequenceIndex } from "./sequence-index.ts";
import type { QueueSettings } from "./settings.ts";

export interface DeadLetterReason {
  readonly reason?: string;
  readonly description?: string;
  readonly properties?: PropertyChanges;
}

/** The messages of a queue, or those of its dead letters: locks, failures, deferral, time. */
export interface Subqueue<Content> {
  /** In lower case, as the broker keeps all names: `orders`, `orders/$deadletterqueue`. */
  readonly path: string;
  readonly isDeadLetters: boolean;
  readonly size: number;
  readonly scheduledCount: number;
  /** Expired messages go only while somebody listens: clean-up is the receivers' work. */
  listeners: number;
  add(message: QueueMessage<Content>, now: number): void;
  /** Locks the next message. */
  receive(now: number): LockedMessage<Content> | undefined;
  /** Removes the next message. */
  take(now: number): QueueMessage<Content> | undefined;
  /** The next message, left where it is. */
  next(now: number): QueueMessage<Content> | undefined;
  /** All of them or none. */
  receiveDeferred(sequenceNumbers: readonly number[], now: number): LockedMessage<Content>[];
  takeDeferred(sequenceNumbers: readonly number[], now: number): QueueMessage<Content>[];
  peek(fromSequenceNumber: number, limit: number): QueueMessage<Content>[];
  /** All of them or none. */
  cancelScheduled(sequenceNumbers: readonly number[]): void;
  /** Returns until when the message is locked now. */
  renewLock(lockToken: string, now: number): number;
  complete(lockToken: string, now: number): void;
  abandon(lockToken: string, now: number, changes?: PropertyChanges): void;
  /** Gives the message back without counting the delivery. */
  release(lockToken: string, now: number): void;
  defer(lockToken: string, now: number, changes?: PropertyChanges): void;
  deadLetter(lockToken: string, now: number, reason: DeadLetterReason): void;
  /** Ends every lock, as if its time were over. */
  expireLocks(now: number): void;
  /** Does what is due. */
  advance(now: number): void;
  /** When something will be due next; Infinity if nothing will. */
  nextDeadline(): number;
  /** How much is remembered, for tests that look for leaks. */
  footprint(): { messages: number; locks: number; timers: number };
}

/** A message with what the broker does with it. */
interface Stored<Content> extends QueueMessage<Content> {
  sequenceNumber: number;
  enqueuedAt: number;
  expiresAt: number;
  state: QueueMessage<Content>["state"];
  deliveryCount: number;
  changes: PropertyChanges | undefined;
  lockToken: string | undefined;
  /** Its place among those that can be received. */
  ready: HeapEntry<Stored<Content>> | undefined;
  /** The end of its lock, or the time it is scheduled for. */
  timer: HeapEntry<Stored<Content>> | undefined;
  expiry: HeapEntry<Stored<Content>> | undefined;
}

export interface SubqueueHost<Content> {
  readonly path: string;
  settings(): QueueSettings;
  nextSequenceNumber(): number;
  createLockToken(): string;
  /** A message is gone, for good or elsewhere. */
  removed(message: QueueMessage<Content>): void;
  /** Application properties changed the size of a message. */
  resized(bytes: number): void;
  /** Undefined in the dead letters: there, nothing is counted, nothing expires, nothing can be dead-lettered again. */
  readonly deadLetter: ((message: QueueMessage<Content>, reason: DeadLetterReason, now: number) => void) | undefined;
  /** A message can be received. */
  available(): void;
  /** Something will be due then. */
  deadline(time: number): void;
}

export function createSubqueue<Content extends MessageContent>(host: SubqueueHost<Content>): Subqueue<Content> {
  const messages = createSequenceIndex<Stored<Content>>();
  const ready = createHeap<Stored<Content>>();
  const timers = createHeap<Stored<Content>>();
  const expiries = createHeap<Stored<Content>>();
  const locked = new Map<string, Stored<Content>>();
  let scheduledCount = 0;
  let listeners = 0;

  function setTimer(message: Stored<Content>, time: number): void {
    if (message.timer) timers.remove(message.timer);
    message.timer = timers.add(time, message);
    host.deadline(time);
  }
  function clearTimer(message: Stored<Content>): void {
    if (message.timer) timers.remove(message.timer);
    message.timer = undefined;
  }

  /** Lets it be received, if it hasn't expired meanwhile: a lock only puts that off. */
  function makeReady(message: Stored<Content>, now: number): void {
    if (message.expiresAt <= now && listeners > 0) return expire(message, now);
    message.ready = ready.add(message.sequenceNumber, message);
    if (message.expiresAt !== Infinity) {
      message.expiry = expiries.add(message.expiresAt, message);
      if (listeners > 0) host.deadline(message.expiresAt);
    }
    host.available();
  }
  function makeUnready(message: Stored<Content>): void {
    if (message.ready) ready.remove(message.ready);
    if (message.expiry) expiries.remove(message.expiry);
    message.ready = undefined;
    message.expiry = undefined;
  }

  function remove(message: Stored<Content>): void {
    makeUnready(message);
    clearTimer(message);
    if (message.state === "scheduled") scheduledCount--;
    messages.remove(message);
    host.removed(message);
  }

  function expire(message: Stored<Content>, now: number): void {
    remove(message);
    if (!host.settings().deadLetteringOnMessageExpiration) return;
    const description = "The message expired and was dead lettered.";
    host.deadLetter?.(message, { reason: "TTLExpiredException", description }, now);
  }

  function nextReady(now: number): Stored<Content> | undefined {
    for (;;) {
      const message = ready.first()?.item;
      if (!message || message.expiresAt > now) return message;
      expire(message, now);
    }
  }

  function lock(message: Stored<Content>, now: number): LockedMessage<Content> {
    makeUnready(message);
    const lockToken = host.createLockToken();
    message.lockToken = lockToken;
    locked.set(lockToken, message);
    const lockedUntil = now + host.settings().lockDurationMs;
    setTimer(message, lockedUntil);
    return { message, lockToken, lockedUntil };
  }

  function held(lockToken: string, now: number): Stored<Content> {
    const message = locked.get(lockToken);
    if (!message?.timer || message.timer.key <= now) throw lockLost();
    return message;
  }

  function unlock(message: Stored<Content>): void {
    if (message.lockToken !== undefined) locked.delete(message.lockToken);
    message.lockToken = undefined;
    clearTimer(message);
  }

  function change(message: Stored<Content>, changes: PropertyChanges | undefined): void {
    if (!changes) return;
    const before = bytesOf(message.changes);
    message.changes = { ...message.changes, ...changes };
    host.resized(bytesOf(message.changes) - before);
  }

  function count(message: Stored<Content>): void {
    if (host.deadLetter) message.deliveryCount++;
  }

  /** What was delivered comes back, to be received once more or, at the limit, to become a dead letter. */
  function comeBack(message: Stored<Content>, now: number): void {
    if (message.state === "deferred") return;
    const { maxDeliveryCount } = host.settings();
    if (host.deadLetter && message.deliveryCount >= maxDeliveryCount) {
      remove(message);
      const description = `Message could not be consumed after ${maxDeliveryCount} delivery attempts.`;
      host.deadLetter(message, { reason: "MaxDeliveryCountExceeded", description }, now);
    } else makeReady(message, now);
  }

  function fail(message: Stored<Content>, now: number): void {
    unlock(message);
    count(message);
    comeBack(message, now);
  }

  function activate(message: Stored<Content>, now: number): void {
    clearTimer(message);
    messages.remove(message);
    scheduledCount--;
    message.state = "active";
    message.sequenceNumber = host.nextSequenceNumber();
    message.enqueuedAt = now;
    message.expiresAt = now + message.timeToLiveMs;
    messages.add(message);
    makeReady(message, now);
  }

  function findDeferred(sequenceNumbers: readonly number[], now: number): Stored<Content>[] {
    const found = sequenceNumbers.map((sequenceNumber) => messages.get(sequenceNumber));
    const deferred = found.filter((message) => message?.state === "deferred" && message.lockToken === undefined);
    const expired = deferred.filter((message) => message !== undefined && message.expiresAt <= now);
    for (const message of new Set(expired)) if (message) expire(message, now);
    if (expired.length > 0 || new Set(deferred).size < sequenceNumbers.length) throw deferredNotFound();
    return deferred.filter((message) => message !== undefined);
  }

  return {
    path: host.path,
    isDeadLetters: host.deadLetter === undefined,
    get size() {
      return messages.size;
    },
    get scheduledCount() {
      return scheduledCount;
    },
    get listeners() {
      return listeners;
    },
    set listeners(count) {
      listeners = count;
      const next = expiries.first();
      if (listeners > 0 && next) host.deadline(next.key);
    },
    add(message, now) {
      const stored: Stored<Content> = {
        ...message,
        // Nothing expires among dead letters.
        expiresAt: host.deadLetter ? message.expiresAt : Infinity,
        lockToken: undefined,
        ready: undefined,
        timer: undefined,
        expiry: undefined,
      };
      messages.add(stored);
      if (stored.state === "scheduled") {
        scheduledCount++;
        setTimer(stored, stored.scheduledFor ?? now);
      } else makeReady(stored, now);
    },
    receive(now) {
      const message = nextReady(now);
      return message && lock(message, now);
    },
    take(now) {
      const message = nextReady(now);
      if (message) remove(message);
      return message;
    },
    next: nextReady,
    receiveDeferred: (sequenceNumbers, now) => findDeferred(sequenceNumbers, now).map((message) => lock(message, now)),
    takeDeferred(sequenceNumbers, now) {
      const taken = findDeferred(sequenceNumbers, now);
      taken.forEach(remove);
      return taken;
    },
    peek: (fromSequenceNumber, limit) => messages.from(fromSequenceNumber, limit),
    cancelScheduled(sequenceNumbers) {
      const found = new Map(sequenceNumbers.map((sequenceNumber) => [sequenceNumber, messages.get(sequenceNumber)]));
      const missing = [...found].filter(([, message]) => message?.state !== "scheduled").map(([sequenceNumber]) =>
        sequenceNumber
      );
      if (missing.length > 0) throw scheduledNotFound(missing);
      for (const message of found.values()) if (message) remove(message);
    },
    renewLock(lockToken, now) {
      const message = held(lockToken, now);
      const lockedUntil = now + host.settings().lockDurationMs;
      setTimer(message, lockedUntil);
      return lockedUntil;
    },
    complete(lockToken, now) {
      const message = held(lockToken, now);
      unlock(message);
      remove(message);
    },
    abandon(lockToken, now, changes) {
      const message = held(lockToken, now);
      change(message, changes);
      fail(message, now);
    },
    release(lockToken, now) {
      const message = held(lockToken, now);
      unlock(message);
      comeBack(message, now);
    },
    defer(lockToken, now, changes) {
      const message = held(lockToken, now);
      change(message, changes);
      unlock(message);
      count(message);
      message.state = "deferred";
    },
    deadLetter(lockToken, now, reason) {
      const message = held(lockToken, now);
      if (!host.deadLetter) throw notAllowed("A message of a dead-letter queue can't be dead-lettered.");
      unlock(message);
      remove(message);
      host.deadLetter(message, reason, now);
    },
    expireLocks(now) {
      for (const message of [...locked.values()]) fail(message, now);
    },
    advance(now) {
      for (let due = timers.first(); due && due.key <= now; due = timers.first()) {
        if (due.item.lockToken === undefined) activate(due.item, now);
        else fail(due.item, now);
      }
      if (listeners === 0) return;
      for (let due = expiries.first(); due && due.key <= now; due = expiries.first()) expire(due.item, now);
    },
    nextDeadline() {
      const expiry = listeners > 0 ? expiries.first()?.key : undefined;
      return Math.min(timers.first()?.key ?? Infinity, expiry ?? Infinity);
    },
    footprint: () => ({ messages: messages.size, locks: locked.size, timers: ready.size + timers.size + expiries.size }),
  };
}

/** About what they take on the wire: enough for a quota. */
export function bytesOf(changes: PropertyChanges | undefined): number {
  if (!changes) return 0;
  return Object.entries(changes).reduce((sum, [key, value]) => sum + Buffer.byteLength(key) + String(value).length + 8, 0);
}

import { createDuplicates } from "./duplicates.ts";
import type { MessageContent, PropertyChanges, QueueMessage } from "./message.ts";
import { messageTooLarge, queueFull, type Refusal } from "./refusal.ts";
import type { QueueSettings } from "./settings.ts";
import { bytesOf, createSubqueue, type DeadLetterReason, type Subqueue, type SubqueueHost } from "./subqueue.ts";

/** A queue with its dead letters. Pure: time comes in with each call, and tokens from whoever made it. */
export interface Queue<Content> {
  /** In lower case. */
  readonly name: string;
  settings: QueueSettings;
  readonly times: QueueTimes;
  readonly active: Subqueue<Content>;
  readonly deadLetters: Subqueue<Content>;
  /** Of all its messages, dead letters included: what the quota is about. */
  readonly bytes: number;
  /**
   * Enqueues all of them, or throws and enqueues none. Returns a sequence number for each; that of a duplicate, which is dropped,
   * belongs to nothing.
   */
  send(contents: readonly Content[], now: number): number[];
  /** Why the queue wouldn't take these. */
  refusalOf(contents: readonly Content[]): Refusal | undefined;
  /** Takes over a message of another queue, as a new one. */
  forwarded(message: QueueMessage<Content>, origin: { deadLetterSource?: string }, now: number): void;
  /** Puts a message that was taken out among the dead letters. */
  deadLetter(message: QueueMessage<Content>, reason: DeadLetterReason, now: number): void;
  counts(): QueueCounts;
  advance(now: number): void;
  nextDeadline(): number;
  footprint(): { messages: number; locks: number; timers: number; messageIds: number };
}

export interface QueueTimes {
  readonly createdAt: number;
  /** The last send, or change of its settings. */
  modifiedAt: number;
  /** The last time anything was done with its messages. */
  accessedAt: number;
}

export interface QueueCounts {
  /** Locked and deferred ones are counted among the active. */
  readonly active: number;
  readonly scheduled: number;
  readonly deadLettered: number;
}

export interface QueueHost<Content> {
  readonly createdAt: number;
  createLockToken(): string;
  available(subqueue: Subqueue<Content>): void;
  deadline(time: number): void;
}

/** Ids are forgotten once a second and not one by one. */
const evictionMs = 1_000;

export function createQueue<Content extends MessageContent>(
  name: string,
  initial: QueueSettings,
  host: QueueHost<Content>,
): Queue<Content> {
  let settings = initial;
  let lastSequenceNumber = 0;
  let bytes = 0;
  let evictionAt = Infinity;
  const duplicates = createDuplicates();
  const times = { createdAt: host.createdAt, modifiedAt: host.createdAt, accessedAt: host.createdAt };
  const nextSequenceNumber = () => ++lastSequenceNumber;

  const shared = {
    settings: () => settings,
    nextSequenceNumber,
    createLockToken: host.createLockToken,
    removed: (message: QueueMessage<Content>) => {
      bytes -= message.content.bytes + bytesOf(message.changes);
    },
    resized: (difference: number) => {
      bytes += difference;
    },
    deadline: host.deadline,
  };
  const deadLetters = createSubqueue<Content>({
    ...shared,
    path: `${name}/$deadletterqueue`,
    deadLetter: undefined,
    available: () => host.available(deadLetters),
  });
  const active = createSubqueue<Content>(
    {
      ...shared,
      path: name,
      deadLetter: putDeadLetter,
      available: () => host.available(active),
    } satisfies SubqueueHost<Content>,
  );

  function add(subqueue: Subqueue<Content>, message: QueueMessage<Content>, now: number): void {
    bytes += message.content.bytes + bytesOf(message.changes);
    subqueue.add(message, now);
  }

  /** Number, times and count stay as they were. */
  function putDeadLetter(
    message: QueueMessage<Content>,
    { reason, description, properties }: DeadLetterReason,
    now: number,
  ): void {
    const changes: PropertyChanges = {
      ...message.changes,
      ...properties,
      ...(reason !== undefined && { DeadLetterReason: reason }),
      ...(description !== undefined && { DeadLetterErrorDescription: description }),
    };
    add(deadLetters, { ...message, state: "active", changes }, now);
  }

  function enqueue(
    content: Content,
    now: number,
    origin: Pick<QueueMessage<Content>, "enqueuedSequenceNumber" | "deadLetterSource" | "hops" | "changes">,
  ): number {
    const sequenceNumber = nextSequenceNumber();
    if (settings.requiresDuplicateDetection) {
      const windowMs = settings.duplicateDetectionHistoryTimeWindowMs;
      if (duplicates.isDuplicate(content.messageId(), now, windowMs)) return sequenceNumber;
      if (evictionAt === Infinity) setEviction(now + windowMs);
    }
    const scheduledFor = content.scheduledFor;
    const timeToLiveMs = Math.min(content.timeToLiveMs, settings.defaultMessageTimeToLiveMs);
    const state = scheduledFor !== undefined && scheduledFor > now ? "scheduled" : "active";
    add(active, {
      ...origin,
      content,
      sequenceNumber,
      enqueuedAt: now,
      timeToLiveMs,
      expiresAt: now + timeToLiveMs,
      scheduledFor,
      state,
      deliveryCount: 0,
    }, now);
    return sequenceNumber;
  }

  function setEviction(time: number): void {
    evictionAt = time;
    if (time !== Infinity) host.deadline(time);
  }

  function refusalOf(contents: readonly Content[]): Refusal | undefined {
    const maxMessageBytes = settings.maxMessageSizeInKilobytes * 1_024;
    const maxBytes = settings.maxSizeInMegabytes * 1_048_576;
    let total = bytes;
    for (const content of contents) {
      if (content.bytes > maxMessageBytes) return messageTooLarge(content.bytes, maxMessageBytes);
      total += content.bytes;
    }
    return total > maxBytes ? queueFull(name, bytes, maxBytes) : undefined;
  }

  return {
    name,
    get settings() {
      return settings;
    },
    set settings(next) {
      settings = next;
    },
    times,
    active,
    deadLetters,
    get bytes() {
      return bytes;
    },
    refusalOf,
    send(contents, now) {
      const refusal = refusalOf(contents);
      if (refusal) throw refusal;
      times.modifiedAt = times.accessedAt = now;
      const origin = { enqueuedSequenceNumber: 0, deadLetterSource: undefined, hops: 0, changes: undefined };
      return contents.map((content) => enqueue(content, now, origin));
    },
    forwarded({ content, sequenceNumber, hops, changes, enqueuedSequenceNumber }, { deadLetterSource }, now) {
      enqueue(content, now, {
        enqueuedSequenceNumber: enqueuedSequenceNumber || sequenceNumber,
        deadLetterSource,
        hops: hops + 1,
        changes,
      });
    },
    deadLetter: putDeadLetter,
    counts: () => ({
      active: active.size - active.scheduledCount,
      scheduled: active.scheduledCount,
      deadLettered: deadLetters.size,
    }),
    advance(now) {
      active.advance(now);
      deadLetters.advance(now);
      if (evictionAt > now) return;
      const windowMs = settings.duplicateDetectionHistoryTimeWindowMs;
      duplicates.evict(now, windowMs);
      const oldest = duplicates.oldest();
      setEviction(oldest === undefined ? Infinity : Math.max(oldest + windowMs, now + evictionMs));
    },
    nextDeadline: () => Math.min(active.nextDeadline(), deadLetters.nextDeadline(), evictionAt),
    footprint() {
      const [a, b] = [active.footprint(), deadLetters.footprint()];
      return {
        messages: a.messages + b.messages,
        locks: a.locks + b.locks,
        timers: a.timers + b.timers,
        messageIds: duplicates.size,
      };
    },
  };
}

/** What a queue has to know of what it carries; the rest is its sender's and its receiver's. */
export interface MessageContent {
  readonly bytes: number;
  /** As the sender asked; Infinity: for ever. */
  readonly timeToLiveMs: number;
  readonly scheduledFor: number | undefined;
  /** Read only where duplicates are looked for. */
  messageId(): string;
}

export type MessageState = "active" | "deferred" | "scheduled";

/** Application properties that were added or replaced after the message was sent. */
export type PropertyChanges = Readonly<Record<string, unknown>>;

export interface QueueMessage<Content> {
  readonly content: Content;
  readonly sequenceNumber: number;
  /** The number it had in the queue it was first forwarded from; 0 if it never was. */
  readonly enqueuedSequenceNumber: number;
  readonly enqueuedAt: number;
  /** What the sender asked for, cut by the queue's default. */
  readonly timeToLiveMs: number;
  readonly expiresAt: number;
  readonly scheduledFor: number | undefined;
  /** The queue whose dead letter this was before it was forwarded. */
  readonly deadLetterSource: string | undefined;
  /** How often it was forwarded. */
  readonly hops: number;
  readonly state: MessageState;
  readonly deliveryCount: number;
  readonly changes: PropertyChanges | undefined;
}

export interface LockedMessage<Content> {
  readonly message: QueueMessage<Content>;
  /** A UUID. */
  readonly lockToken: string;
  readonly lockedUntil: number;
}

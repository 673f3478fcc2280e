import type { TransportName } from "../transports.ts";

/** What is sent: text (JSON of a contract) under an id that no other sending has. */
export interface OutgoingMessage {
  readonly messageId: string;
  readonly body: string;
  /** For people who look into the broker; not every transport has a place for them, and no receiver of ours reads them. */
  readonly correlationId?: string;
  readonly properties?: Readonly<Record<string, string>>;
}

/** A message under a lock that this process holds until it settles it or the lock expires. */
export interface LockedMessage {
  readonly messageId: string;
  /** What the broker itself knows it by: the same at each delivery, and of no other message that was ever in this place. */
  readonly identity: string;
  /** As sent, or whatever else somebody put into the queue; unparsed. */
  readonly body: string;
  /** 1 on the first delivery, on every transport. */
  readonly deliveryCount: number;
  /** Why it was dead-lettered; only on a dead letter. `source`: the queue that it came from, if the broker says so. */
  readonly deadLettered?: { readonly reason: string; readonly description: string; readonly source?: string };
  /** Locks it for another `lockMs` from now. Rejects with LockLostError if it isn't ours any more. */
  renewLock(): Promise<void>;
  /** Removes it. Settling a message whose lock was lost rejects with LockLostError, where the broker can tell. */
  complete(): Promise<void>;
  /** Makes it available to all receivers at once; the next delivery counts one more. */
  abandon(): Promise<void>;
  /** Dead-letters it: moves it to the queue's dead letters. The reason is one of ours, the description is for people. */
  moveToDeadLetters(reason: string, description: string): Promise<void>;
}

export interface ReceiveOptions {
  /** At most so many messages; fewer, or none, when the wait is over. */
  readonly max: number;
  /** Ends the wait; a message that was already locked is still returned. */
  readonly signal: AbortSignal;
  /** Default: the queue itself. */
  readonly from?: "queue" | "dead-letters";
}

export interface QueueCounts {
  /** Messages that wait or are locked. Queue Storage and Service Bus call theirs approximate. */
  readonly active: number;
  readonly deadLettered: number;
}

/**
 * At-least-once delivery under a lock that expires. A queue is named by its plain name; `provision` makes it.
 * There is no delayed send: delays live in the outbox.
 */
export interface Transport {
  readonly name: TransportName;
  /** How long a lock holds before it must be renewed. */
  readonly lockMs: number;
  /** The largest body it sends, in bytes of UTF-8. */
  readonly maxBodyBytes: number;
  /** Creates the queues, and where their dead letters go, if missing. */
  provision(queues: readonly string[]): Promise<void>;
  /**
   * Sends all or rejects; after a rejection some may have been sent. Refuses with PermanentError `invalid-message`, before
   * anything is sent, if one body is larger than `maxBodyBytes`.
   */
  send(queue: string, messages: readonly OutgoingMessage[]): Promise<void>;
  /** Waits for messages, a few seconds at most, and locks them. Rejects when the broker can't be reached. */
  receive(queue: string, options: ReceiveOptions): Promise<readonly LockedMessage[]>;
  counts(queue: string): Promise<QueueCounts>;
  /** Deletes every message of the queue and of its dead letters. */
  purge(queue: string): Promise<void>;
  /** Ends every receive that waits, and the connections. Locks it held expire by themselves. */
  close(): Promise<void>;
}

/** The lock of a message expired, or somebody else holds it now: settling it is no longer ours to do. */
export class LockLostError extends Error {
  override readonly name = "LockLostError";
}

/** How a message ends. Handlers return it; only the consume loop settles. */
export type Settlement =
  | { readonly settle: "complete" }
  | { readonly settle: "abandon" }
  | { readonly settle: "dead-letter"; readonly reason: string; readonly description: string };

export const complete: Settlement = { settle: "complete" };
export const abandon: Settlement = { settle: "abandon" };

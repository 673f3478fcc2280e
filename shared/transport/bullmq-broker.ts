import type { IQueueBackend, QueueBaseOptions } from "bullmq";

/** What BullMQ's backends read besides the connection, though only the options of its Worker declare it. */
export interface BullmqLocks {
  readonly lockDuration: number;
  readonly stalledInterval: number;
  readonly maxStalledCount: number;
}

export type BackendOptions<Connection> = QueueBaseOptions<Connection> & BullmqLocks;

/** Where BullMQ keeps its jobs: Redis or PostgreSQL. One set of connections for all queues. */
export interface BullmqBroker {
  /** Rejects when the broker can't be reached. */
  backend(queue: string): Promise<IQueueBackend>;
  /** Resolves when a job may be waiting in the queue, and after two seconds at the latest. Rejects when it can't be known. */
  arrival(queue: string): Promise<void>;
  close(): Promise<void>;
}

/** How long `arrival` waits: also how soon a process notices what no signal told it. */
export const arrivalSeconds = 2;

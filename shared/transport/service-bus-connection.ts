import type { ServiceBusClient, ServiceBusReceiver, ServiceBusSender } from "@azure/service-bus";
import type { Logger } from "pino";
import { withTimeLimit } from "../time-limit.ts";
import { translateError } from "./service-bus-errors.ts";
import { LockLostError } from "./transport.ts";

/** What a link receives from. */
export interface Source {
  readonly queue: string;
  readonly from: "queue" | "dead-letters";
}

/** A client of the SDK, watched: nothing that is asked of it may stay unanswered. */
export interface Connection {
  /** Aborted when it stayed silent, or was closed: calls that are under way reject, and it must not be used any more. */
  readonly gone: AbortSignal;
  /** The sender of a queue; there is one. */
  sender(queue: string): ServiceBusSender;
  /** A receiver of its own. Connects with its first receive. Default: `peekLock`. */
  openReceiver(source: Source, receiveMode?: "peekLock" | "receiveAndDelete"): ServiceBusReceiver;
  /** A receiver that receives nothing; renews and settles by lock token. */
  manager(source: Source): ServiceBusReceiver;
  /**
   * Runs a call of this client. Rejects with LockLostError or ServiceBusCallError, after `limitMs` at the latest. If nothing at all
   * was heard from Service Bus meanwhile, this client is gone: the SDK can hang for a minute where a link was just being opened
   * when the connection broke, and for ever where nobody closed it.
   */
  call<Result>(tried: string, run: () => Promise<Result>, options?: CallOptions<Result>): Promise<Result>;
  close(): Promise<void>;
}

export interface CallOptions<Result> {
  readonly limitMs?: number;
  /** Whether this result proves that Service Bus is there. Default: any does. */
  readonly isAnswer?: (result: Result) => boolean;
}

/** More than the SDK takes to notice that a call isn't answered, where it does notice. */
const callLimitMs = 10_000;
/** Closing waits for the other side, which may be gone. */
const closeLimitMs = 500;

export function createConnection(client: ServiceBusClient, log: Logger): Connection {
  const senders = new Map<string, ServiceBusSender>();
  const managers = new Map<string, ServiceBusReceiver>();
  const gone = new AbortController();
  const pending = new Set<(error: Error) => void>();
  let answers = 0;

  function openReceiver({ queue, from }: Source, receiveMode: "peekLock" | "receiveAndDelete" = "peekLock"): ServiceBusReceiver {
    return client.createReceiver(queue, {
      receiveMode,
      skipParsingBodyAsJson: true,
      // The SDK's own renewal goes by message id: of two messages with the same id it forgets one.
      maxAutoLockRenewalDurationInMs: 0,
      ...(from === "dead-letters" && { subQueueType: "deadLetter" }),
    });
  }

  /** The promise's outcome, or a rejection when this client is gone. */
  function whileHere<Result>(promise: Promise<Result>): Promise<Result> {
    const { promise: outcome, resolve, reject } = Promise.withResolvers<Result>();
    pending.add(reject);
    promise.then(resolve, reject).finally(() => pending.delete(reject));
    return outcome;
  }

  async function close(): Promise<void> {
    gone.abort();
    for (const reject of pending) reject(new Error("its client was closed"));
    await withTimeLimit(client.close(), closeLimitMs).catch(() => {});
  }

  return {
    gone: gone.signal,
    sender: (queue) => getOrAdd(senders, queue, () => client.createSender(queue)),
    openReceiver,
    manager: (source) => getOrAdd(managers, `${source.from} ${source.queue}`, () => openReceiver(source)),
    async call(tried, run, { limitMs = callLimitMs, isAnswer = () => true } = {}) {
      const answersBefore = answers;
      try {
        const result = await withTimeLimit(whileHere(run()), limitMs);
        if (isAnswer(result)) answers += 1;
        return result;
      } catch (thrown) {
        const error = translateError(tried, thrown);
        if (error instanceof LockLostError || !error.isSilence) answers += 1;
        else if (answers === answersBefore && !gone.signal.aborted) {
          log.warn({ err: error }, "Service Bus is silent: its client is replaced");
          void close();
        }
        throw error;
      }
    },
    close,
  };
}

/** The connection that is used now; opened when first used, and again when the one before is gone. */
export interface ConnectionSlot {
  /** Throws once it is closed. */
  current(): Connection;
  close(): Promise<void>;
}

export function createConnectionSlot(open: () => Connection): ConnectionSlot {
  let connection: Connection | undefined;
  let closed = false;
  return {
    current() {
      if (closed) throw new Error("the transport service_bus is closed");
      if (!connection || connection.gone.aborted) connection = open();
      return connection;
    },
    async close() {
      closed = true;
      await connection?.close();
    },
  };
}

/** Closes a receiver, or gives up waiting for that. */
export async function closeReceiver(receiver: ServiceBusReceiver): Promise<void> {
  await withTimeLimit(receiver.close(), closeLimitMs).catch(() => {});
}

function getOrAdd<Value>(map: Map<string, Value>, key: string, create: () => Value): Value {
  const known = map.get(key);
  if (known) return known;
  const created = create();
  map.set(key, created);
  return created;
}

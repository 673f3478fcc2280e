import type { ServiceBusReceivedMessage, ServiceBusReceiver } from "@azure/service-bus";
import type { Connection, Source } from "./service-bus-connection.ts";
import { closeReceiver } from "./service-bus-connection.ts";
import type { Received } from "./service-bus-settle.ts";
import { createSettlementFence, type SettlementFence } from "./settlement-fence.ts";
import { settledOrAborted } from "./waiting.ts";

/** A receiver of the SDK, and so an AMQP session with one link. Serves one receive at a time. */
export interface Link {
  readonly connection: Connection;
  readonly receiver: ServiceBusReceiver;
  readonly fence: SettlementFence;
  /** It failed, or has delivered its share: it must not be asked again. */
  readonly isUsedUp: boolean;
  /**
   * Waits for messages until the signal is aborted; what has been locked by then is returned. Without a message, the wait ends by
   * itself after `waitMs`, but a receive goes on with the next.
   */
  receive(max: number, signal: AbortSignal): Promise<readonly ServiceBusReceivedMessage[]>;
  /** Must be called once for every message that was delivered, when there is nothing more to do for it here. */
  release(): void;
  /** Nobody will ask it again: closes it once all that it delivered is settled, and at once if it failed. */
  retire(): void;
  /** Ends it as soon as its wait is over; the messages that it delivered can still be settled. */
  close(): Promise<void>;
}

/**
 * The longest that a link is asked to wait. A wait can't be cut short without losing a message that is just coming, so this is how
 * long a stopping process may have to wait.
 */
const waitMs = 700;
/** How long messages are collected that are there already; the drain that follows brings the rest. */
const collectMs = 5;
/** Beyond a wait, before a receiver counts as silent. Holds connecting, too. */
const silenceMs = 10_000;
/**
 * A session has places for 2,048 deliveries, and stops without a word when one that is never settled has come to the front of
 * them. A link that is replaced before that can't stop.
 */
const deliveriesPerLink = 1_000;

export interface LinkOptions {
  readonly source: Source;
  /** Called with a message that nobody waits for any more; must release the link. */
  readonly giveBack: (received: Received) => Promise<void>;
}

export function openLink(connection: Connection, { source, giveBack }: LinkOptions): Link {
  const receiver = connection.openReceiver(source);
  let arrived: readonly ServiceBusReceivedMessage[] = [];
  let waiting: Promise<void> | undefined;
  let wanted = false;
  let failed = false;
  let retired = false;
  let flowing = false;
  let delivered = 0;
  let unsettled = 0;

  async function ask(max: number, forMs: number): Promise<readonly ServiceBusReceivedMessage[]> {
    // Not by the signal: an aborted call of the SDK leaves its credit on the link, and messages that come for it get lost.
    const call = receiver.receiveMessages(max, { maxWaitTimeInMs: forMs });
    try {
      const messages = await connection.call(`receiving from ${source.queue}`, () => call, {
        limitMs: forMs + silenceMs,
        isAnswer: ({ length }) => length > 0, // the SDK gives none on a dead link, too
      });
      return note(messages);
    } catch (error) {
      failed = true;
      call.then((late) => giveBackAll(note(late)), () => {});
      throw error;
    }
  }

  function note(messages: readonly ServiceBusReceivedMessage[]) {
    delivered += messages.length;
    unsettled += messages.length;
    return messages;
  }

  async function giveBackAll(messages: readonly ServiceBusReceivedMessage[]): Promise<void> {
    await Promise.allSettled(messages.map((message) => giveBack({ message, source, link })));
  }

  /** One message, so that its coming ends the wait. May go on after the receive that began it, for the next one. */
  function waitForOne(): Promise<void> {
    return waiting ??= ask(1, waitMs).then(async (messages) => {
      if (wanted) arrived = messages;
      else await giveBackAll(messages);
    }).finally(() => waiting = undefined);
  }

  async function collect(max: number): Promise<readonly ServiceBusReceivedMessage[]> {
    return max > 0 ? await ask(max, collectMs) : [];
  }

  const link: Link = {
    connection,
    receiver,
    fence: createSettlementFence(),
    get isUsedUp() {
      return failed || connection.gone.aborted || delivered >= deliveriesPerLink;
    },
    async receive(max, signal) {
      wanted = true;
      try {
        if (flowing && !waiting && !signal.aborted) {
          const messages = await collect(max);
          flowing = messages.length === max;
          if (messages.length > 0) return messages;
        }
        while (arrived.length === 0) {
          if (signal.aborted) return [];
          const wait = waitForOne();
          await settledOrAborted(wait, signal);
          if (arrived.length === 0 && !signal.aborted) await wait; // for its error
        }
        const first = arrived;
        arrived = [];
        // What is locked is returned, whatever comes next; the next call will say.
        const others = signal.aborted ? [] : await collect(max - first.length).catch(() => []);
        flowing = first.length + others.length === max;
        return [...first, ...others];
      } finally {
        wanted = false;
      }
    },
    release() {
      unsettled -= 1;
      if (retired && unsettled === 0) void closeReceiver(receiver);
    },
    retire() {
      retired = true;
      if (failed || unsettled === 0) void closeReceiver(receiver);
    },
    async close() {
      await waiting?.catch(() => {});
      await closeReceiver(receiver);
    },
  };
  return link;
}

import type { Subqueue } from "../queue/subqueue.ts";
import type { AmqpContent } from "./content.ts";

/** A link that messages of a subqueue are delivered on. */
export interface Consumer {
  readonly subqueue: Subqueue<AmqpContent>;
  /** Whether it has credit, and room. */
  hasRoom(): boolean;
  /** Delivers one message; false if there was none. */
  deliver(now: number): boolean;
}

/** Gives the messages of each subqueue to its consumers, one to each in turn. */
export interface Consumers {
  add(consumer: Consumer): void;
  remove(consumer: Consumer): void;
  /** It may have room again. */
  wake(consumer: Consumer): void;
  /** Messages have come. They are given out at the end of the turn, so that those of a batch are given out together. */
  notify(subqueue: Subqueue<AmqpContent>): void;
  of(subqueue: Subqueue<AmqpContent>): ReadonlySet<Consumer>;
}

interface Group {
  readonly all: Set<Consumer>;
  /** Those that may have room, in the order in which they are served. */
  readonly hungry: Set<Consumer>;
}

export function createConsumers(now: () => number): Consumers {
  const groups = new Map<Subqueue<AmqpContent>, Group>();
  const notified = new Set<Subqueue<AmqpContent>>();

  function serve(subqueue: Subqueue<AmqpContent>): void {
    const hungry = groups.get(subqueue)?.hungry;
    if (!hungry) return;
    const time = now();
    for (const consumer of hungry) {
      const delivered = consumer.hasRoom() && consumer.deliver(time);
      if (!delivered && consumer.hasRoom()) return; // it keeps its turn
      hungry.delete(consumer);
      if (delivered) hungry.add(consumer); // the loop comes to it again when the others have had one
    }
  }

  return {
    add(consumer) {
      const { subqueue } = consumer;
      const group = groups.get(subqueue) ?? { all: new Set(), hungry: new Set() };
      groups.set(subqueue, group);
      group.all.add(consumer);
      subqueue.listeners = group.all.size;
    },
    remove(consumer) {
      const { subqueue } = consumer;
      const group = groups.get(subqueue);
      if (!group?.all.delete(consumer)) return;
      group.hungry.delete(consumer);
      subqueue.listeners = group.all.size;
      if (group.all.size === 0) groups.delete(subqueue);
    },
    wake(consumer) {
      const group = groups.get(consumer.subqueue);
      if (!group?.all.has(consumer)) return;
      group.hungry.add(consumer);
      serve(consumer.subqueue);
    },
    notify(subqueue) {
      if (notified.size === 0) {
        queueMicrotask(() => {
          const served = [...notified];
          notified.clear();
          served.forEach(serve);
        });
      }
      notified.add(subqueue);
    },
    of: (subqueue) => groups.get(subqueue)?.all ?? new Set(),
  };
}

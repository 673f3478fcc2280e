import type { Namespace } from "../queue/namespace.ts";
import type { Queue } from "../queue/queue.ts";
import { entityNotFound } from "../queue/refusal.ts";
import { entityOf } from "../sas-token.ts";
import type { Subqueue } from "../queue/subqueue.ts";

const deadLetterSuffix = "/$deadletterqueue";

/** The name of the queue in an address, of its dead letters' address too. */
export function queueNameOf(address: string): string {
  const entity = entityOf(address);
  return entity.endsWith(deadLetterSuffix) ? entity.slice(0, -deadLetterSuffix.length) : entity;
}

export interface Addressed<Content> {
  readonly queue: Queue<Content>;
  readonly subqueue: Subqueue<Content>;
}

/** Throws a Refusal if there is no such queue. */
export function resolve<Content>(namespace: Namespace<Content>, address: string, host: string): Addressed<Content> {
  const queue = namespace.find(queueNameOf(address));
  if (!queue) throw entityNotFound(`sb://${host}/${address.replace(/^\w+:\/\/[^/]*\//, "")}`);
  return { queue, subqueue: entityOf(address).endsWith(deadLetterSuffix) ? queue.deadLetters : queue.active };
}

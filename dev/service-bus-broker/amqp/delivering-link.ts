import type { EventContext, Sender } from "rhea";
import frames from "rhea/lib/frames.js";
import { refuseToReceive } from "../queue/namespace.ts";
import { entityDisabled, Refusal } from "../queue/refusal.ts";
import type { DeadLetterReason, Subqueue } from "../queue/subqueue.ts";
import { type Addressed, resolve } from "./address.ts";
import type { Broker } from "./broker.ts";
import type { Claims } from "./claims.ts";
import type { Consumer } from "./consumers.ts";
import type { AmqpContent } from "./content.ts";
import { encodeMessage } from "./encode-message.ts";
import { deliveryTagOf } from "./lock-token.ts";
import type { OpenLink } from "./open-link.ts";
import { deliveryInternals, linkInternals, outcomes, senderInternals, sessionInternals } from "./rhea-internals.ts";

const settledBySender = 1;
const accepted = outcomes.accepted();

/** What a client said of a delivery. */
interface RemoteState {
  readonly undeliverable_here?: boolean | null;
  readonly message_annotations?: Readonly<Record<string, unknown>> | null;
  readonly error?: { readonly condition?: unknown; readonly info?: Readonly<Record<string, unknown>> | null } | null;
}

/** A client receives: messages go out as it gives credit, and are settled as it says. Throws a Refusal. */
export function openDeliveringLink(broker: Broker, claims: Claims, link: Sender): OpenLink {
  const address = link.source.address;
  claims.need("Listen", address, broker.clock.now());
  const { queue, subqueue } = addressedToReceive(broker, address);
  const peekLock = link.snd_settle_mode !== settledBySender;
  const attach = linkInternals(link).local.attach;
  attach.snd_settle_mode = peekLock ? 0 : settledBySender;
  attach.rcv_settle_mode = peekLock ? 1 : 0;

  const session = sessionInternals(link.session);
  const internals = senderInternals(link);
  /** Lock tokens by delivery id. */
  const unsettled = new Map<number, string>();
  /** rhea takes credit away when it writes, a turn later; what was handed to it since has to be counted here. */
  let handed = 0;
  let drained = 0;
  let usedAt = broker.clock.now();
  const pending = () => handed - (internals.delivery_count - drained);

  const consumer: Consumer = {
    subqueue,
    hasRoom: () => link.is_open() && internals.credit - pending() > 0 && session.outgoing.available() > 0,
    deliver: (now) => peekLock ? deliverLocked(now) : deliverSettled(now),
  };

  function deliverLocked(now: number): boolean {
    usedAt = queue.times.accessedAt = now;
    const locked = subqueue.receive(now);
    if (!locked) return false;
    const bytes = encodeMessage(locked.message, locked.lockedUntil);
    const { id } = link.send(bytes, deliveryTagOf(locked.lockToken), 0);
    unsettled.set(id, locked.lockToken);
    handed++;
    return true;
  }
  function deliverSettled(now: number): boolean {
    usedAt = queue.times.accessedAt = now;
    const message = subqueue.take(now);
    if (!message) return false;
    deliveryInternals(link.send(encodeMessage(message), undefined, 0)).settled = true;
    handed++;
    return true;
  }

  function settle({ delivery }: EventContext, act: (lockToken: string, state: RemoteState, now: number) => void): void {
    const lockToken = delivery && unsettled.get(delivery.id);
    if (!delivery || lockToken === undefined) return;
    unsettled.delete(delivery.id);
    usedAt = queue.times.accessedAt = broker.clock.now();
    let reply = accepted;
    try {
      act(lockToken, delivery.remote_state ?? {}, usedAt);
    } catch (error) {
      const { condition, message } = error instanceof Refusal ? error : new Refusal("amqp:internal-error", 500, String(error));
      reply = outcomes.rejected({ error: { condition, description: message } });
    }
    // Once settled by both sides, a delivery leaves rhea's ring. A client never says so a second time, so we say it for it.
    const ring = deliveryInternals(delivery);
    if (broker.faults.losesReply()) ring.settled = true;
    else if (reply === accepted) delivery.update(true, accepted.described());
    else {
      // rhea would merge this with a neighbour of another outcome: two deliveries in a row get the outcome of the first.
      ring.settled = true;
      session.output(
        frames.disposition({ role: false, first: delivery.id, last: delivery.id, settled: true, state: reply.described() }),
      );
    }
    ring.remote_settled = true;
    broker.consumers.wake(consumer); // where the ring was full, there is room again
  }

  link.on("accepted", (context: EventContext) => settle(context, (lockToken, _, now) => subqueue.complete(lockToken, now)));
  link.on("released", (context: EventContext) => settle(context, (lockToken, _, now) => subqueue.release(lockToken, now)));
  link.on("modified", (context: EventContext) =>
    settle(context, (lockToken, state, now) => {
      const changes = state.message_annotations ?? undefined;
      if (state.undeliverable_here) subqueue.defer(lockToken, now, changes);
      else subqueue.abandon(lockToken, now, changes);
    }));
  link.on(
    "rejected",
    (context: EventContext) =>
      settle(context, (lockToken, { error }, now) => subqueue.deadLetter(lockToken, now, deadLetterReason(error?.info ?? {}))),
  );

  link.on("sender_flow", () => {
    usedAt = broker.clock.now();
    broker.consumers.wake(consumer);
  });
  link.on("sender_draining", () => link.set_drained(true)); // what was there has gone out with the flow, just before
  internals._get_drain = () => {
    // rhea answers a drain only where credit was left. The client waits for an answer to each.
    if (!internals._draining || !internals._drained) return false;
    drained += internals.credit;
    internals.delivery_count += internals.credit;
    internals.credit = 0;
    internals._draining = false;
    return true;
  };
  broker.consumers.add(consumer);

  return {
    queue,
    right: "Listen",
    address,
    // While it waits for messages it isn't idle; while a long handler holds all its credit, it is.
    usedAt: () => internals.credit - pending() > 0 ? broker.clock.now() : usedAt,
    ended(byClient) {
      broker.consumers.remove(consumer);
      if (byClient && broker.faults.dropLocksAtDetach) release(subqueue, unsettled.values(), broker.clock.now());
      unsettled.clear();
    },
  };
}

function addressedToReceive({ namespace, host }: Broker, address: string): Addressed<AmqpContent> {
  const addressed = resolve(namespace, address, host());
  const { queue, subqueue } = addressed;
  if (queue.settings.status === "Disabled" || queue.settings.status === "ReceiveDisabled") throw entityDisabled(queue.name);
  refuseToReceive(queue, subqueue);
  return addressed;
}

/** Any other key beside the two becomes an application property. */
export function deadLetterReason(info: Readonly<Record<string, unknown>>): DeadLetterReason {
  const { DeadLetterReason: reason, DeadLetterErrorDescription: description, ...properties } = info;
  return {
    ...(typeof reason === "string" && { reason }),
    ...(typeof description === "string" && { description }),
    properties,
  };
}

function release(subqueue: Subqueue<AmqpContent>, lockTokens: Iterable<string>, now: number): void {
  for (const lockToken of lockTokens) {
    try {
      subqueue.abandon(lockToken, now);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error; // its lock is over already
    }
  }
}

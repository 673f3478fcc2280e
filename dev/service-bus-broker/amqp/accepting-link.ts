import type { Delivery, EventContext, Receiver } from "rhea";
import frames from "rhea/lib/frames.js";
import { entityDisabled, messageTooLarge, notAllowed, Refusal } from "../queue/refusal.ts";
import { resolve } from "./address.ts";
import { batchFormat, splitBatch } from "./batch.ts";
import type { Broker } from "./broker.ts";
import type { Claims } from "./claims.ts";
import { type AmqpContent, parseContent } from "./content.ts";
import type { OpenLink } from "./open-link.ts";
import { deliveryInternals, linkInternals, outcomes, sessionInternals } from "./rhea-internals.ts";

const creditWindow = 1_000;

/** A client sends: each delivery, a message or a batch of them, is enqueued whole or refused whole. Throws a Refusal. */
export function openAcceptingLink(broker: Broker, claims: Claims, link: Receiver): OpenLink {
  const address = link.target.address;
  claims.need("Send", address, broker.clock.now());
  const { queue, subqueue } = resolve(broker.namespace, address, broker.host());
  if (subqueue.isDeadLetters) throw notAllowed(`Messages can't be sent to '${subqueue.path}'.`);
  const internals = linkInternals(link);
  internals.local.attach.max_message_size = queue.settings.maxMessageSizeInKilobytes * 1_024;
  internals.local.attach.rcv_settle_mode = 0;
  let usedAt = broker.clock.now();

  link.on("message", ({ message, delivery }: EventContext) => {
    usedAt = broker.clock.now();
    if (!delivery || !Buffer.isBuffer(message)) return;
    try {
      const refusal = broker.faults.refusalOfSend();
      if (refusal) throw refusal;
      const { status } = queue.settings;
      if (status === "Disabled" || status === "SendDisabled") throw entityDisabled(queue.name);
      const maxBytes = queue.settings.maxMessageSizeInKilobytes * 1_024;
      if (message.length > maxBytes) throw messageTooLarge(message.length, maxBytes);
      queue.send(parseDelivery(message, delivery.format), usedAt);
      delivery.accept();
    } catch (error) {
      reject(link, delivery, error);
    }
    if (internals.credit <= creditWindow / 2) link.add_credit(creditWindow - internals.credit);
  });
  link.add_credit(creditWindow);
  return { queue, right: "Send", address, usedAt: () => usedAt, ended() {} };
}

function parseDelivery(bytes: Buffer, format: number): AmqpContent[] {
  try {
    return format === batchFormat ? splitBatch(bytes).map(parseContent) : [parseContent(bytes)];
  } catch (error) {
    throw new Refusal("amqp:decode-error", 400, `The message can't be read: ${error instanceof Error ? error.message : error}`);
  }
}

/** By itself: rhea would give this outcome to the neighbour's delivery as well. */
function reject(link: Receiver, delivery: Delivery, error: unknown): void {
  const { condition, message } = error instanceof Refusal ? error : new Refusal("amqp:internal-error", 500, String(error));
  const state = outcomes.rejected({ error: { condition, description: message } }).described();
  deliveryInternals(delivery).settled = true;
  sessionInternals(link.session).output(
    frames.disposition({ role: true, first: delivery.id, last: delivery.id, settled: true, state }),
  );
}

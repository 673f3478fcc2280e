import type { ServiceBusMessage, ServiceBusMessageBatch } from "@azure/service-bus";
import { PermanentError } from "../errors.ts";
import type { ConnectionSlot } from "./service-bus-connection.ts";
import { translateError } from "./service-bus-errors.ts";
import type { Throttle } from "./service-bus-throttle.ts";
import { LockLostError } from "./transport.ts";
import { pause } from "./waiting.ts";

/** As many as one transaction of the service takes. */
const maxPerBatch = 100;
const batchesInFlight = 4;
const maxTries = 3;

export interface SendOptions {
  readonly connections: ConnectionSlot;
  readonly throttle: Throttle;
  readonly signal: AbortSignal;
}

/** Opens the link of a queue's sender; rejects soon if the namespace, the queue or the right to send isn't there. */
export async function openSender(queue: string, { connections }: SendOptions): Promise<ServiceBusMessageBatch> {
  const connection = connections.current();
  return await connection.call(`opening the sender of ${queue}`, () => connection.sender(queue).createMessageBatch());
}

/** Sends all in batches, some of them at a time. Rejects if one can't be sent; others may have been. */
export async function sendInBatches(queue: string, messages: readonly ServiceBusMessage[], options: SendOptions): Promise<void> {
  if (messages.length === 0) return;
  const batches = (await fillBatches(queue, messages, options)).values();
  const sendNext = async () => {
    for (const batch of batches) await retrying(options, () => sendBatch(queue, batch, options));
  };
  await Promise.all(Array.from({ length: batchesInFlight }, sendNext));
}

async function fillBatches(queue: string, messages: readonly ServiceBusMessage[], options: SendOptions) {
  const newBatch = () => retrying(options, () => openSender(queue, options));
  const batches = [await newBatch()];
  for (const message of messages) {
    const last = batches.at(-1);
    if (last && last.count < maxPerBatch && last.tryAddMessage(message)) continue;
    const next = await newBatch();
    if (!next.tryAddMessage(message)) {
      throw new PermanentError("invalid-message", `message ${message.messageId} is larger than ${queue} takes`);
    }
    batches.push(next);
  }
  return batches.filter(({ count }) => count > 0);
}

async function sendBatch(queue: string, batch: ServiceBusMessageBatch, { connections }: SendOptions): Promise<void> {
  const connection = connections.current();
  await connection.call(`sending to ${queue}`, () => connection.sender(queue).sendMessages(batch));
}

/** Few tries, soon after each other: what can't be sent now stays in the outbox, and is sent later. */
async function retrying<Result>({ throttle, signal }: SendOptions, call: () => Promise<Result>): Promise<Result> {
  for (let tries = 1;; tries++) {
    await throttle.pass(signal);
    try {
      return await call();
    } catch (thrown) {
      const error = translateError("sending", thrown);
      if (error instanceof LockLostError || !error.isTransient) throw error;
      if (error.isBusy) throttle.slowDown();
      if (tries >= maxTries || signal.aborted) throw error;
      if (!error.isBusy) await pause(200 * 2 ** tries * (0.5 + Math.random() / 2), signal);
    }
  }
}

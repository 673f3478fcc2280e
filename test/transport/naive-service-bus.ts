import { type RetryOptions, ServiceBusClient, type ServiceBusReceiver } from "@azure/service-bus";
import type { Transport } from "../../shared/transport/transport.ts";

/**
 * Service Bus as the SDK's documentation shows it: one client, one receiver per queue, the SDK renews. The negative control of
 * `service-bus-hazards.test.ts`: each test there fails with it, or it would prove nothing. Lacks what they don't need.
 */
export function openNaiveServiceBusTransport(
  connectionString: string,
  options: { readonly lockMs: number; readonly retryOptions?: RetryOptions },
): Transport {
  const { lockMs, retryOptions = {} } = options;
  const client = new ServiceBusClient(connectionString, { retryOptions });
  const receivers = new Map<string, ServiceBusReceiver>();

  return {
    name: "service_bus",
    lockMs,
    maxBodyBytes: 200_000,
    async send(queue, messages) {
      const sender = client.createSender(queue);
      await sender.sendMessages(messages.map(({ messageId, body }) => ({ messageId, body })));
    },
    async receive(queue, { max, signal }) {
      const receiver = receivers.get(queue) ?? client.createReceiver(queue);
      receivers.set(queue, receiver);
      const messages = await receiver.receiveMessages(max, { maxWaitTimeInMs: 1_000, abortSignal: signal });
      return messages.map((message) => ({
        messageId: String(message.messageId),
        identity: String(message.sequenceNumber),
        body: String(message.body),
        deliveryCount: (message.deliveryCount ?? 0) + 1,
        renewLock: () => Promise.resolve(), // by the SDK
        complete: () => receiver.completeMessage(message),
        abandon: () => receiver.abandonMessage(message),
        moveToDeadLetters: (deadLetterReason, deadLetterErrorDescription) =>
          receiver.deadLetterMessage(message, { deadLetterReason, deadLetterErrorDescription }),
      }));
    },
    close: () => client.close(),
    provision: lacking,
    counts: lacking,
    purge: lacking,
  };
}

const lacking = () => Promise.reject(new Error("the naive transport has none"));

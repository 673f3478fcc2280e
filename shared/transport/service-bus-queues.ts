import type { CreateQueueOptions, ServiceBusAdministrationClient } from "@azure/service-bus";
import { createServiceBusAdminClient, type ServiceBusAccount } from "./service-bus-account.ts";
import { translateError } from "./service-bus-errors.ts";
import type { QueueCounts } from "./transport.ts";

/**
 * How every queue is made, in Azure's words. Neither partitioned nor with duplicate detection, by default: naming either would be
 * refused in the tier Basic.
 */
export const queueDefaults = {
  lockDuration: "PT5M",
  maxDeliveryCount: 10,
  defaultMessageTimeToLive: "P14D",
  deadLetteringOnMessageExpiration: true,
  maxSizeInMegabytes: 1_024,
} as const satisfies CreateQueueOptions;

export interface QueueSettings {
  readonly lockMs: number;
  readonly maxDeliveryCount: number;
}

/** Queues and their counts, over HTTP; needs the right to manage. */
export interface QueueAdministration {
  /** Creates a queue, unless it is there. */
  provide(queue: string, settings: QueueSettings): Promise<void>;
  counts(queue: string): Promise<QueueCounts>;
  forwardsDeadLetters(queue: string): Promise<boolean>;
}

export function createQueueAdministration(account: ServiceBusAccount): QueueAdministration {
  const client = createServiceBusAdminClient(account);
  return {
    async provide(queue, { lockMs, maxDeliveryCount }) {
      try {
        if (await client.queueExists(queue)) return;
        await createQueue(client, queue, { ...queueDefaults, lockDuration: `PT${lockMs / 1_000}S`, maxDeliveryCount });
      } catch (error) {
        throw translateError(`creating queue ${queue}`, error);
      }
    },
    async counts(queue) {
      try {
        const { activeMessageCount, deadLetterMessageCount } = await client.getQueueRuntimeProperties(queue);
        return { active: activeMessageCount, deadLettered: deadLetterMessageCount };
      } catch (error) {
        throw translateError(`counting the messages of ${queue}`, error);
      }
    },
    async forwardsDeadLetters(queue) {
      try {
        return Boolean((await client.getQueue(queue)).forwardDeadLetteredMessagesTo);
      } catch (error) {
        throw translateError(`reading the settings of ${queue}`, error);
      }
    },
  };
}

/** Whether it was this call that created it. If another process is creating it just now, it may take a moment until it's there. */
export async function createQueue(
  client: ServiceBusAdministrationClient,
  queue: string,
  options: CreateQueueOptions,
): Promise<boolean> {
  try {
    await client.createQueue(queue, options);
    return true;
  } catch (error) {
    if (statusOf(error) !== 409) throw error;
    return false;
  }
}

function statusOf(error: unknown): unknown {
  return error instanceof Error && "statusCode" in error ? error.statusCode : undefined;
}

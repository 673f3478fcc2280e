import { createServiceBusAdminClient, type ServiceBusAccount } from "./service-bus-account.ts";
import { translateError } from "./service-bus-errors.ts";
import type { QueueCounts } from "./transport.ts";

export interface QueueSettings {
  readonly lockMs: number;
  readonly maxDeliveryCount: number;
}

/** Queues and their counts, over HTTP; needs the right to manage. */
export interface QueueAdministration {
  /** Creates a queue, unless it is there. */
  provide(queue: string, settings: QueueSettings): Promise<void>;
  counts(queue: string): Promise<QueueCounts>;
}

export function createQueueAdministration(account: ServiceBusAccount): QueueAdministration {
  const client = createServiceBusAdminClient(account);
  return {
    async provide(queue, { lockMs, maxDeliveryCount }) {
      try {
        if (await client.queueExists(queue)) return;
        // Neither partitioned nor with duplicate detection, by default: naming either would be refused in Basic.
        await client.createQueue(queue, {
          lockDuration: `PT${lockMs / 1_000}S`,
          maxDeliveryCount,
          defaultMessageTimeToLive: "P14D",
          deadLetteringOnMessageExpiration: true,
          maxSizeInMegabytes: 1_024,
        });
      } catch (error) {
        if (statusOf(error) !== 409) throw translateError(`creating queue ${queue}`, error); // another process was faster
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
  };
}

function statusOf(error: unknown): unknown {
  return error instanceof Error && "statusCode" in error ? error.statusCode : undefined;
}

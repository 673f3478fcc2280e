import type { TransportName } from "../transports.ts";

/** The queues of one transport. Service Bus and BullMQ have namespaces of their own; Queue Storage shares an account. */
export interface QueueNames {
  readonly jobs: string;
  readonly stages: string;
  readonly tasks: string;
}

export const defaultQueues: Readonly<Record<TransportName, QueueNames>> = {
  service_bus: { jobs: "sb-jobs", stages: "sb-stages", tasks: "sb-tasks" },
  storage_queue: { jobs: "geospatial-jobs", stages: "geospatial-stages", tasks: "geospatial-tasks" },
  bullmq: { jobs: "jobs", stages: "stages", tasks: "tasks" },
};

/** Where a Standard namespace forwards the dead letters of all its queues to. */
export const serviceBusPoisonQueue = "sb-poison";

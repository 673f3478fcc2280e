/** The transports a job can run on, as written in API, database and labels. */
export const transportNames = ["service_bus", "storage_queue", "bullmq"] as const;
export type TransportName = (typeof transportNames)[number];

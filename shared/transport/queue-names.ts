import type { JobCatalog } from "../jobs/catalog.ts";
import type { TransportName } from "../transports.ts";
import { defaultQueues } from "./queues.ts";
import { queueName, type Transports } from "./send-batches.ts";

/** The queues of a transport that jobs use, by the names they have there: its own three, and those that stages name. */
export function listQueuesOf(transport: TransportName, jobs: JobCatalog, queues = defaultQueues[transport]): readonly string[] {
  const named = [...jobs.values()].flatMap((job) => job.stages.flatMap(({ queue }) => queue ?? []));
  return [...new Set(["jobs", "stages", "tasks", ...named].map((queue) => queueName(queues, queue)))];
}

/** The same of every transport. */
export function listQueueNames(transports: Transports, jobs: JobCatalog): ReadonlyMap<TransportName, readonly string[]> {
  return new Map([...transports].map(([name, { queues }]) => [name, listQueuesOf(name, jobs, queues)]));
}

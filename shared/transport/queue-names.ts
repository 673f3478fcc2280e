import type { JobCatalog } from "../jobs/catalog.ts";
import type { TransportName } from "../transports.ts";
import { queueName, type Transports } from "./send-batches.ts";

/** The queues of each transport that jobs use, by the names they have there: its own three, and those that stages name. */
export function listQueueNames(transports: Transports, jobs: JobCatalog): ReadonlyMap<TransportName, readonly string[]> {
  const named = [...jobs.values()].flatMap((job) => job.stages.flatMap(({ queue }) => queue ?? []));
  return new Map(
    [...transports].map(([name, { queues }]) => [
      name,
      [...new Set(["jobs", "stages", "tasks", ...named].map((queue) => queueName(queues, queue)))],
    ]),
  );
}

import type { TransportName } from "../../transports.ts";
import type { Db } from "../database.ts";
import { type FoundRows, foundRows, type Place } from "./found.ts";

interface UnjudgedPoison {
  readonly poisonId: number;
  readonly transport: TransportName;
  readonly queue: string;
  readonly jobId: string | null;
  readonly total: number;
}

/** Recorded so long ago, and not judged. */
export async function findUnjudgedPoison(
  db: Db,
  { lateMs, limit }: { readonly lateMs: number; readonly limit: number },
): Promise<FoundRows<UnjudgedPoison>> {
  return foundRows(
    await db<UnjudgedPoison[]>`
    select id as "poisonId", transport, queue, job_id as "jobId", count(*) over ()::int as total from poison_messages
    where verdict is null and last_seen_at < now() - ${lateMs} * interval '1 ms' order by id limit ${limit}`,
  );
}

/** A message on its way to the poison-handler may take so long. */
const onItsWayMs = 600_000;

/** Tasks that failed a while ago without a poison record that names them. */
export async function findUnrecordedFailures(
  db: Db,
  limit: number,
): Promise<FoundRows<Place & { taskId: number; total: number }>> {
  return foundRows(
    await db<(Place & { taskId: number; total: number })[]>`
    with recorded as materialized (select distinct unnest(task_ids) as id from poison_messages)
    select tasks.id as "taskId", stage_id as "stageId", job_id as "jobId", count(*) over ()::int as total
    from tasks join stages on stages.id = stage_id
    where tasks.status = 'failed' and tasks.ended_at < now() - ${onItsWayMs} * interval '1 ms'
      and not exists (select from recorded where recorded.id = tasks.id)
    order by tasks.id limit ${limit}`,
  );
}

/** Queues of a transport, by the names of the broker or of the outbox, of which dead letters were taken in within so long. */
export async function listBusyPoisonQueues(db: Db, transport: TransportName, withinMs: number): Promise<ReadonlySet<string>> {
  const rows = await db<{ queue: string }[]>`
    select distinct queue from poison_messages
    where transport = ${transport} and (origin = 'message' or sightings > 1) and last_seen_at > now() - ${withinMs} * interval '1 ms'`;
  return new Set(rows.map(({ queue }) => queue));
}

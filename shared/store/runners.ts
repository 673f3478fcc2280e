import type { TransportName } from "../transports.ts";
import type { Db } from "./database.ts";

/** How long a runner that says nothing counts as alive. */
export const runnerLeaseMs = 8_000;

/** Takes or renews the lease under which all attempts of this process start run. Time is the database's. */
export async function renewRunner(db: Db, runner: { id: string; processingPath: TransportName; queue: string }): Promise<void> {
  await db`
    insert into runners (id, processing_path, queue, lease_until)
    values (${runner.id}, ${runner.processingPath}, ${runner.queue}, now() + ${runnerLeaseMs} * interval '1 ms')
    on conflict (id) do update set lease_until = excluded.lease_until`;
}

/** Ends the lease at once, after everything it covered was recorded or released. */
export async function removeRunner(db: Db, id: string): Promise<void> {
  await db`delete from runners where id = ${id}`;
}

export async function countLiveRunners(db: Db, processingPath: TransportName): Promise<number> {
  const [row] = await db<{ live: number }[]>`
    select count(*)::int as live from runners where processing_path = ${processingPath} and lease_until > now()`;
  return row?.live ?? 0;
}

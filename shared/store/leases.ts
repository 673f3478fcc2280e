import type { Db } from "./database.ts";

/**
 * Takes or renews a lease of what only one process does at a time; false if another holds it. A row rather than an advisory lock,
 * which would pin a connection (docs/decisions/0003). Two at once must be harmless all the same: every change repeats its guard.
 */
export async function takeLease(db: Db, name: string, owner: string, leaseMs: number): Promise<boolean> {
  const taken = await db`
    insert into leases (name, owner, lease_until) values (${name}, ${owner}, now() + ${leaseMs} * interval '1 ms')
    on conflict (name) do update set owner = excluded.owner, lease_until = excluded.lease_until
    where leases.owner = excluded.owner or leases.lease_until < now()`;
  return taken.count === 1;
}

/** Gives it back at once. */
export async function dropLease(db: Db, name: string, owner: string): Promise<void> {
  await db`delete from leases where name = ${name} and owner = ${owner}`;
}

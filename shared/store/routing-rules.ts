import type { TransportName } from "../transports.ts";
import type { Db } from "./database.ts";

/** Where jobs of a type go whose client doesn't name a transport. */
export interface RoutingRule {
  /** `*`: of every type that has no rule of its own. */
  readonly jobType: string;
  readonly transport: TransportName;
  /** 0 to 100: the share of the jobs that go there, stable per job id; the others go to the default. */
  readonly percent: number;
  /** Jobs of fewer tasks, by the type's own estimate, go to the default. 0: all are large enough. */
  readonly minTasks: number;
  readonly updatedAt: Date;
}

export async function listRoutingRules(db: Db): Promise<readonly RoutingRule[]> {
  return await db<RoutingRule[]>`
    select job_type as "jobType", transport, percent, min_tasks as "minTasks", updated_at as "updatedAt"
    from routing_rules order by job_type`;
}

/** Returns true if there was none for this type before. */
export async function putRoutingRule(db: Db, rule: Omit<RoutingRule, "updatedAt">): Promise<boolean> {
  const [row] = await db<{ created: boolean }[]>`
    insert into routing_rules (job_type, transport, percent, min_tasks)
    values (${rule.jobType}, ${rule.transport}, ${rule.percent}, ${rule.minTasks})
    on conflict (job_type) do update set transport = excluded.transport, percent = excluded.percent,
      min_tasks = excluded.min_tasks, updated_at = now()
    returning xmax = 0 as created`;
  return row?.created ?? false;
}

/** Returns false if there was none. */
export async function deleteRoutingRule(db: Db, jobType: string): Promise<boolean> {
  const deleted = await db`delete from routing_rules where job_type = ${jobType}`;
  return deleted.count === 1;
}

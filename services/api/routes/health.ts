import { Hono } from "hono";
import type { Logger } from "pino";
import type { Sql } from "../../../shared/store/database.ts";
import { readSchemaVersion } from "../../../shared/store/listings.ts";
import { findSchemaProblem } from "../../../shared/store/migrate.ts";
import type { Transports } from "../../../shared/transport/send-batches.ts";
import type { Transport } from "../../../shared/transport/transport.ts";
import { shareRunning, withTimeLimit } from "../../../shared/time-limit.ts";

const componentMs = 2_500;

export interface HealthDependencies {
  readonly sql: Sql;
  readonly transports: Transports;
  readonly queueNames: ReadonlyMap<string, readonly string[]>;
  readonly log: Logger;
}

interface Component {
  readonly status: "healthy" | "unhealthy";
  readonly latency_ms: number;
  readonly [detail: string]: unknown;
}

/** Each part with its latency: `/api/health`. 503 if one of them doesn't do its work; whether we do ours is what `/readyz` says. */
export function createHealthRoutes({ sql, transports, queueNames, log }: HealthDependencies): Hono {
  const checks = new Map<string, () => Promise<Component>>();
  const add = (name: string, check: () => Promise<Readonly<Record<string, unknown>>>) => {
    const run = shareRunning(check);
    checks.set(name, async () => {
      const started = performance.now();
      const latency = () => Math.round((performance.now() - started) * 10) / 10;
      try {
        const details = await withTimeLimit(run(), componentMs);
        return { status: "problem" in details ? "unhealthy" : "healthy", latency_ms: latency(), ...details };
      } catch (error) {
        log.warn({ err: error, component: name }, "health check failed");
        return { status: "unhealthy", latency_ms: latency(), problem: `does not answer; waited up to ${componentMs} ms` };
      }
    });
  };
  add("database", async () => {
    const problem = await findSchemaProblem(sql);
    return problem === null ? { schema_version: await readSchemaVersion(sql) } : { problem };
  });
  for (const [name, { transport }] of transports) {
    add(name, async () => ({ queues: await readQueues(transport, queueNames.get(name) ?? []) }));
  }

  return new Hono().get("/", async (context) => {
    const components = Object.fromEntries(
      await Promise.all([...checks].map(async ([name, check]) => [name, await check()] as const)),
    );
    const errors = Object.entries(components).flatMap(([name, { problem }]) => (problem ? [`${name}: ${problem}`] : []));
    const healthy = errors.length === 0;
    return context.json({
      status: healthy ? "healthy" : "unhealthy",
      components,
      errors,
      request_id: context.get("requestId"),
      timestamp: new Date().toISOString(),
    }, healthy ? 200 : 503);
  });
}

async function readQueues(transport: Transport, names: readonly string[]): Promise<Readonly<Record<string, unknown>>> {
  const counts = await Promise.all(names.map(async (name) => {
    const { active, deadLettered } = await transport.counts(name);
    return [name, { active_messages: active, dead_letter_messages: deadLettered }] as const;
  }));
  return Object.fromEntries(counts);
}

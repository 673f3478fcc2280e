import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { Sql } from "./database.ts";
import { findSchemaProblem } from "./migrate.ts";

/** Waits until the database has the schema this process was written for; says once what it waits for. */
export async function whenSchemaIsReady(sql: Sql, signal: AbortSignal, log: Logger): Promise<void> {
  let said = "";
  while (!signal.aborted) {
    const problem = await findSchemaProblem(sql).catch((error: unknown) =>
      error instanceof Error ? error.message || error.name : String(error)
    );
    if (problem === null) return;
    if (problem !== said) log.warn({ problem }, "waiting for the database");
    said = problem;
    await sleep(500, undefined, { signal }).catch(() => {});
  }
}

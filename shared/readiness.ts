import type { Logger } from "pino";
import type { Sql } from "./store/database.ts";
import { findSchemaProblem } from "./store/migrate.ts";
import { shareRunning, withTimeLimit } from "./time-limit.ts";

/** What asks whether we are ready gives up after a second. */
const readinessMs = 800;

/** For `/readyz`. Transports are left out: what can't be sent now stays in the outbox. */
export function createReadinessCheck({ sql, log }: { readonly sql: Sql; readonly log: Logger }): () => Promise<string | null> {
  const check = shareRunning(() => findSchemaProblem(sql));
  return async () => {
    try {
      return await withTimeLimit(check(), readinessMs);
    } catch (error) {
      log.warn({ err: error }, "not ready");
      return "the database does not answer";
    }
  };
}

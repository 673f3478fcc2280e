import { setTimeout as sleep } from "node:timers/promises";
import { ExponentialBackoff, handleWhen, retry } from "cockatiel";
import type { Logger } from "pino";
import postgres from "postgres";

/** A pool or a transaction: the caller draws the boundary. */
export type Db = postgres.ISql<{ bigint: number }>;
export type Sql = postgres.Sql<{ bigint: number }>;

export interface DatabaseOptions {
  /** Connections of the pool. */
  readonly max?: number;
  /** Shown in pg_stat_activity. */
  readonly applicationName: string;
}

/**
 * Opens a pool; connects on first use. Keys (bigint) are read as numbers. Every statement ends within 60 s, and no
 * transaction stays open without one for longer than 30 s, so that a hung process holds no lock for ever.
 */
export function openDatabase(url: string, { max = 10, applicationName }: DatabaseOptions): Sql {
  return postgres(url, {
    max,
    idle_timeout: 60,
    connect_timeout: 5,
    backoff: (retries: number) => Math.min(0.05 * 2 ** retries, 1),
    onnotice: () => {},
    fetch_types: false, // a connection lost while it reads them is a rejection that nobody can catch
    types: { bigint: { to: 20, from: [20], serialize: String, parse: readKey } },
    connection: {
      application_name: `sluice-${applicationName}`,
      jit: "off", // compiling our statements takes longer than running them
      statement_timeout: 60_000,
      idle_in_transaction_session_timeout: 30_000,
    },
  });
}

/**
 * A connection of its own to the same database, whose statements may take as long as they take, for changes of the schema. Setting
 * the limit of a session isn't enough: a connection of a pool is given up when it is silent for longer than its pool's limit
 * (docs/decisions/0003).
 */
export function openPatient(sql: Sql): AsyncDisposable & { readonly sql: Sql } {
  const options = { ...sql.options, max: 1, connection: { ...sql.options.connection, statement_timeout: 0 } };
  // The driver takes options that it has parsed before, and does so itself to listen; its types don't say it.
  const patient: Sql = postgres(options as unknown as postgres.Options<{ bigint: postgres.PostgresType<number> }>);
  return { sql: patient, [Symbol.asyncDispose]: () => patient.end({ timeout: 5 }) };
}

function readKey(text: string): number {
  const key = Number(text);
  if (!Number.isSafeInteger(key)) throw new Error(`key ${text} is too large`);
  return key;
}

/** Connection lost, server going or not yet there, too many connections: the statement may be repeated later. */
const awayCodes = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_DESTROYED",
  "CONNECTION_ENDED",
  "CONNECT_TIMEOUT",
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "EHOSTDOWN",
  "ENETUNREACH",
  "ENETDOWN",
  "ECONNABORTED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "57P01", // admin_shutdown
  "57P02", // crash_shutdown
  "57P03", // cannot_connect_now
  "57P05", // idle_session_timeout
  "53300", // too_many_connections
  "53100", // disk_full
  "53200", // out_of_memory
  "25006", // read_only_sql_transaction: a primary that no longer is one
]);
/** A deadlock or a serialization failure: repeat at once (protocol, rule 24). */
const conflictCodes = new Set(["40P01", "40001"]);

export function isDatabaseAway(error: unknown): boolean {
  const code = errorCode(error);
  return code !== undefined && (awayCodes.has(code) || code.startsWith("08"));
}

/** The database refused the values, not the moment: repeating the same statement can't succeed. */
export function isRefusedByDatabase(error: unknown): boolean {
  const code = errorCode(error);
  return code !== undefined && /^(22|23|54)/.test(code);
}

function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

const onConflict = retry(
  handleWhen((error) => conflictCodes.has(errorCode(error) ?? "")),
  { maxAttempts: 10, backoff: new ExponentialBackoff({ initialDelay: 5, maxDelay: 500 }) },
);

/** Runs one statement or transaction, again as long as it loses against another (deadlock, serialization). */
export async function withConflictRetry<Result>(run: () => Promise<Result>): Promise<Result> {
  return await onConflict.execute(run);
}

/**
 * Runs again, with growing pauses, as long as the database is away: for what must not be given up, such as results in hand.
 * Rejects with the last error once the signal is aborted. `run` must be safe to repeat: its answer may have been lost.
 */
export async function retryWhileAway<Result>(run: () => Promise<Result>, signal: AbortSignal): Promise<Result> {
  return await retryWhile(isDatabaseAway, run, signal);
}

/**
 * The same for whatever error may be gone the next time: all but values that the database refuses. As that may be anything, down
 * to a mistake of ours, the log says so once, and once more when it succeeded after all; `ids` says about what.
 */
export async function retryUnlessRefused<Result>(
  run: () => Promise<Result>,
  { signal, log, ids }: { signal: AbortSignal; log: Logger; ids: () => Record<string, unknown> },
): Promise<Result> {
  const startedAt = performance.now();
  let failures = 0;
  const result = await retryWhile(
    (error) => {
      if (isRefusedByDatabase(error)) return false;
      if (failures++ === 0) log.warn({ ...ids(), code: errorCode(error), err: error }, "not recorded, trying again");
      return true;
    },
    run,
    signal,
  );
  if (failures > 0) {
    log.info({ ...ids(), failures, elapsedMs: Math.round(performance.now() - startedAt) }, "recorded after all");
  }
  return result;
}

async function retryWhile<Result>(
  isPassing: (error: unknown) => boolean,
  run: () => Promise<Result>,
  signal: AbortSignal,
): Promise<Result> {
  for (let failures = 0;; failures++) {
    try {
      return await run();
    } catch (error) {
      if (!isPassing(error) || signal.aborted) throw error;
      const pauseMs = Math.min(1_000, 50 * 2 ** failures) * (0.5 + Math.random());
      await sleep(pauseMs, undefined, { signal }).catch(() => {});
    }
  }
}

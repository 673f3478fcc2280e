import { createHash } from "node:crypto";
import { Writable } from "node:stream";
import { type Logger, pino } from "pino";
import { type ApiDependencies, createApp } from "../../services/api/app.ts";
import { allJobs } from "../support/all-jobs.ts";
import { createJobCatalog } from "../../shared/jobs/catalog.ts";
import type { Sql } from "../../shared/store/database.ts";
import { MemoryBroker, openMemoryTransport } from "../../shared/transport/memory.ts";
import { defaultQueues } from "../../shared/transport/queues.ts";
import type { Transports } from "../../shared/transport/send-batches.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import type { TransportName } from "../../shared/transports.ts";

export interface LogLine extends Record<string, unknown> {
  readonly level: number;
  readonly msg: string;
}

export interface TestApi {
  readonly transports: Transports;
  readonly lines: readonly LogLine[];
  get(path: string, headers?: Record<string, string>): Promise<Answer>;
  /** As `curl -d` sends it: the body is whatever text it is, and claims to be a form. */
  post(path: string, body?: string | Uint8Array<ArrayBuffer>, headers?: Record<string, string>): Promise<Answer>;
  request(path: string, init: RequestInit): Promise<Answer>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // deno-lint-ignore no-explicit-any
  readonly body: any;
}

export interface TestApiOptions extends Partial<Omit<ApiDependencies, "sql">> {
  readonly names?: readonly TransportName[];
  /** Stands in front of each transport. */
  readonly wrap?: (transport: Transport) => Transport;
}

export function createTestApi(
  sql: Sql,
  { names = ["bullmq", "storage_queue"], wrap = (transport) => transport, ...rest }: TestApiOptions = {},
): TestApi {
  const broker = new MemoryBroker();
  const transports: Transports = rest.transports ?? new Map(
    names.map((name) => [name, { transport: wrap(openMemoryTransport({ name, broker })), queues: defaultQueues[name] }]),
  );
  const { log, lines } = createTestLog();
  const app = createApp({ sql, transports, jobs: createJobCatalog(allJobs), log, sender: "api-test", ...rest });
  const request = async (path: string, init: RequestInit): Promise<Answer> => {
    const response = await app.request(path, init);
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: text === "" ? null : isJson(response) ? JSON.parse(text) : text,
    };
  };
  return {
    transports,
    lines,
    request,
    get: (path, headers = {}) => request(path, { headers }),
    post: (path, body = "", headers = {}) =>
      request(path, { method: "POST", body, headers: { "content-type": "application/x-www-form-urlencoded", ...headers } }),
  };
}

function isJson(response: Response): boolean {
  return /[/+]json\b/.test(response.headers.get("content-type") ?? "");
}

export function createTestLog(): { log: Logger; lines: LogLine[] } {
  const lines: LogLine[] = [];
  const stream = new Writable({
    write(chunk, _, done) {
      lines.push(JSON.parse(String(chunk)));
      done();
    },
  });
  return { log: pino({ level: "debug" }, stream), lines };
}

export function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { ContractError, type FieldError, type JsonObject } from "../../shared/contracts/parse.ts";
import { isDatabaseAway } from "../../shared/store/database.ts";

const kinds = {
  "invalid-request": { status: 400, title: "The request is not valid" },
  "transport-not-enabled": { status: 400, title: "The transport is not enabled here" },
  forbidden: { status: 403, title: "This is not allowed" },
  "not-found": { status: 404, title: "There is nothing at this address" },
  "unknown-job": { status: 404, title: "There is no such job" },
  "unknown-redrive": { status: 404, title: "There is no such redrive" },
  "unknown-job-type": { status: 404, title: "There is no such job type" },
  "method-not-allowed": { status: 405, title: "The method is not allowed at this address" },
  "idempotency-conflict": { status: 409, title: "The idempotency key stands for another request" },
  "job-conflict": { status: 409, title: "The job is known under this id with other parameters" },
  "redrive-conflict": { status: 409, title: "The redrive is not what was expected" },
  "not-ready": { status: 409, title: "There is nothing to see yet" },
  "body-too-large": { status: 413, title: "The body is too large" },
  "redeploy-incomplete": { status: 500, title: "The schema was deployed, but not every queue was purged" },
  "internal-error": { status: 500, title: "Something went wrong" },
  unavailable: { status: 503, title: "Try again in a moment" },
} as const satisfies Record<string, { status: ContentfulStatusCode; title: string }>;
export type ProblemKind = keyof typeof kinds;

export interface ProblemOptions extends ErrorOptions {
  readonly errors?: readonly FieldError[];
  /** Further members of the answer. */
  readonly members?: JsonObject;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What a client is told instead of what it asked for. Everything in it may be read by anybody. */
export class Problem extends Error {
  override readonly name = "Problem";
  readonly kind: ProblemKind;
  readonly status: ContentfulStatusCode;
  readonly errors: readonly FieldError[];
  readonly members: JsonObject;
  readonly headers: Readonly<Record<string, string>>;

  constructor(kind: ProblemKind, detail: string, { errors = [], members = {}, headers = {}, cause }: ProblemOptions = {}) {
    super(detail, { cause });
    this.kind = kind;
    this.status = kinds[kind].status;
    this.errors = errors.map(({ field, message }) => ({ field: shorten(field, 100), message: shorten(message, 500) }));
    this.members = members;
    this.headers = headers;
  }
}

declare module "hono" {
  interface ContextVariableMap {
    /** What this request was answered with, for its line in the log. */
    problem: Problem | undefined;
  }
}

/** The answer, as application/problem+json (RFC 9457). */
export function answerProblem(context: Context, problem: Problem): Response {
  context.set("problem", problem);
  const { kind, status, message: detail, errors, members, headers } = problem;
  const body = {
    type: `urn:sluice:problem:${kind}`,
    title: kinds[kind].title,
    status,
    detail,
    instance: context.req.path,
    request_id: context.get("requestId"),
    ...(errors.length > 0 && { errors }),
    ...members,
  };
  return context.body(JSON.stringify(body), status, { ...headers, "content-type": "application/problem+json" });
}

const retryLater = { "retry-after": "5" };
/** A statement that took too long, waited too long for a lock, or lost against another; a table that is not there (yet). */
const busyCodes: readonly unknown[] = ["57014", "55P03", "40P01", "40001", "42P01"];

/** What to tell about an error, which stays in the log as its cause. */
export function describeProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof ContractError && error.code === "invalid-message") {
    const detail = error.fields.map(({ field, message }) => `${shorten(field, 100) || "the body"} ${message}`).join("; ");
    return new Problem("invalid-request", shorten(detail, 1000), { errors: error.fields });
  }
  if (isDatabaseAway(error) || error instanceof Error && "code" in error && busyCodes.includes(error.code)) {
    return new Problem("unavailable", "the database can't answer now", { headers: retryLater, cause: error });
  }
  if (error instanceof HTTPException && error.status === 504) {
    return new Problem("unavailable", "the request took too long", { headers: retryLater, cause: error });
  }
  return new Problem("internal-error", "the error is in the log, under this request's id", { cause: error });
}

function shorten(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1).toWellFormed()}…`;
}

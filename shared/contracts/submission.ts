import canonicalize from "canonicalize";
import { createHash } from "node:crypto";
import * as v from "valibot";
import { type TransportName, transportNames } from "../transports.ts";
import { ContractError, type FieldError, type JsonObject, parse } from "./parse.ts";

/** Words of a submission's body that are no parameters. */
const reserved = {
  transport: v.optional(v.picklist(transportNames)),
  /** The older way to choose. */
  use_service_bus: v.optional(v.boolean()),
  /** The same work once more: 2, 3, … */
  repeat: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1_000_000)), 1),
};

export interface ParsedSubmission {
  readonly parameters: JsonObject;
  readonly transport: TransportName | undefined;
  readonly useServiceBus: boolean | undefined;
  readonly repeat: number;
}

/** Reads the body of a submission: the parameters, flat, and the reserved words. Throws ContractError naming every field at fault. */
export function parseSubmission(params: v.ObjectSchema<v.ObjectEntries, undefined>, body: unknown): ParsedSubmission {
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new ContractError("invalid-message", [{ field: "", message: "must be a JSON object" }]);
  }
  const refused = [...findUnknownKeys(params, body), ...findUnstorable(body)].slice(0, 20);
  if (refused.length > 0) throw new ContractError("invalid-message", refused);
  const { transport, use_service_bus, repeat, ...parameters } = parse(v.object({ ...params.entries, ...reserved }), body) as
    & v.InferOutput<v.ObjectSchema<typeof reserved, undefined>>
    & JsonObject;
  return { parameters, transport, useServiceBus: use_service_bus, repeat };
}

function findUnknownKeys(params: v.ObjectSchema<v.ObjectEntries, undefined>, body: object): readonly FieldError[] {
  const known = [...Object.keys(params.entries), ...Object.keys(reserved)];
  return Object.keys(body).filter((key) => !known.includes(key)).map((field) => ({
    field,
    message: `is unknown; known are ${known.join(", ")}`,
  }));
}

const maxDepth = 50;

/** What JSON allows and a row doesn't. Depth is bounded, as everything that walks through a value later may be recursive. */
function* findUnstorable(value: unknown, path: readonly string[] = []): Generator<FieldError> {
  const field = path.join(".");
  if (path.length > maxDepth) yield { field: path[0] ?? "", message: `is nested more than ${maxDepth} levels deep` };
  else if (typeof value === "string" && !isStorableText(value)) yield { field, message: unstorable };
  else if (typeof value === "number" && !Number.isFinite(value)) yield { field, message: "is too large a number" };
  else if (typeof value === "object" && value !== null) {
    for (const [key, member] of Object.entries(value)) {
      if (!isStorableText(key)) yield { field, message: `has a key that ${unstorable}` };
      yield* findUnstorable(member, [...path, key]);
    }
  }
}

const unstorable = "contains U+0000 or half a surrogate pair";

function isStorableText(text: string): boolean {
  return text.isWellFormed() && !text.includes("\u0000");
}

/** The id of a job: of its type, its parameters, the transport if the client named one, and the repetition if it is one. */
export function computeJobId(
  { jobType, parameters, transport, repeat }: {
    readonly jobType: string;
    readonly parameters: JsonObject;
    readonly transport: TransportName | undefined;
    readonly repeat: number;
  },
): string {
  return hashJson({ job_type: jobType, parameters, ...(transport && { transport }), ...(repeat > 1 && { repeat }) });
}

/** sha256 of the canonical JSON (RFC 8785), 64 lower-case hex digits. */
export function hashJson(value: JsonObject): string {
  return createHash("sha256").update(String(canonicalize(value))).digest("hex");
}

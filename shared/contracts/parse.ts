import * as v from "valibot";
import { type PermanentCode, PermanentError } from "../errors.ts";

/** One field at fault: its dotted path ("" is the whole body) and what is wrong with it. */
export interface FieldError {
  readonly field: string;
  readonly message: string;
}

/** A value broke its contract. `fields` names what is wrong, without repeating the values. */
export class ContractError extends PermanentError {
  readonly fields: readonly FieldError[];

  constructor(code: PermanentCode, fields: readonly FieldError[]) {
    super(code, fields.map(({ field, message }) => (field ? `${field}: ${message}` : message)).join("; "));
    this.fields = fields;
  }
}

/** The one door from unknown to typed. Throws ContractError with the given code. */
export function parse<Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
  code: PermanentCode = "invalid-message",
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value, { message: describeIssue });
  if (result.success) return result.output;
  throw new ContractError(
    code,
    result.issues.slice(0, 20).map((issue) => ({ field: v.getDotPath(issue) ?? "", message: issue.message })),
  );
}

/** Where a schema has no message of its own. Valibot's would repeat the value, which may be a secret, or a megabyte. */
function describeIssue({ expected, received, type, input }: v.BaseIssue<unknown>): string {
  if (received === "undefined") return "is missing";
  const unit = typeof input === "string" ? " characters" : " entries";
  if (type === "min_length") return `must have at least ${expected?.slice(2)}${unit}`;
  if (type === "max_length") return `must have at most ${expected?.slice(2)}${unit}`;
  return expected === null ? `is not a valid ${type}` : `must be ${expected}`;
}

/** The same for JSON text, such as the body of a message. */
export function parseJson<Schema extends v.GenericSchema>(
  schema: Schema,
  text: string,
  code: PermanentCode = "invalid-message",
): v.InferOutput<Schema> {
  return parse(schema, readJson(text, code), code);
}

export function readJson(text: string, code: PermanentCode = "invalid-message"): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ContractError(code, [{ field: "", message: text.trim() === "" ? "is empty" : "is not valid JSON" }]);
  }
}

/** JSON that Postgres can't store as jsonb: U+0000 or a lone surrogate, as JSON.stringify writes them. */
const unstorable = /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f][0-9a-f]{2})/;

export function isStorableJson(json: string): boolean {
  return !unstorable.test(json);
}

/** A field's contract: any JSON object, as parameters and results are before their own schema is known. */
export const JsonObject = v.record(v.string(), v.unknown());
export type JsonObject = v.InferOutput<typeof JsonObject>;

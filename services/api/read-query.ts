import { Buffer } from "node:buffer";
import type { Context } from "hono";
import * as v from "valibot";
import { parse } from "../../shared/contracts/parse.ts";

export const wholeNumber = (minimum: number, maximum: number) =>
  v.pipe(
    v.string(),
    v.regex(/^\d{1,9}$/, "must be a whole number"),
    v.transform(Number),
    v.minValue(minimum),
    v.maxValue(maximum),
  );
export const limit = (maximum: number, fallback: number) => v.optional(wholeNumber(1, maximum), String(fallback));
export const hours = v.optional(wholeNumber(1, 8760));
export const jobType = v.optional(v.pipe(v.string(), v.regex(/^[\w-]{1,100}$/, "is not the name of a job type")));
export const stage = v.optional(wholeNumber(1, 1000));
const notATime = "must be a time such as 2026-01-31T12:00:00Z";
export const since = v.optional(
  v.pipe(v.string(), v.isoTimestamp(notATime), v.transform((text) => new Date(text)), v.date(notATime)),
);

const notACursor = "is not a cursor of this list";

/** Where a page begins: opaque to clients, JSON of this schema to us. */
export function cursor<Position>(schema: v.GenericSchema<unknown, Position>) {
  return v.optional(v.pipe(
    v.string(),
    v.maxLength(300, notACursor),
    v.rawTransform<string, Position>(({ dataset, addIssue, NEVER }) => {
      const value = v.safeParse(schema, decodeCursor(dataset.value));
      if (value.success) return value.output;
      addIssue({ message: notACursor });
      return NEVER;
    }),
  ));
}

export function encodeCursor(position: unknown): string | null {
  return position === null ? null : Buffer.from(JSON.stringify(position)).toString("base64url");
}

function decodeCursor(text: string): unknown {
  try {
    return JSON.parse(Buffer.from(text, "base64url").toString());
  } catch {
    return undefined;
  }
}

/** The query's parameters. One that is unknown or given twice is refused, so that no filter is silently ignored. */
export function readQuery<Entries extends v.ObjectEntries>(
  context: Context,
  entries: Entries,
): v.InferOutput<v.ObjectSchema<Entries, undefined>> {
  const given = Object.fromEntries(
    Object.entries(context.req.queries()).map(([key, values]) => [key, values.length === 1 ? values[0] : values]),
  );
  return parse(
    v.strictObject(
      entries,
      (issue) => issue.expected === "never" ? `is unknown; known are ${Object.keys(entries).join(", ") || "none"}` : "is missing",
    ),
    given,
  ) as v.InferOutput<v.ObjectSchema<Entries, undefined>>;
}

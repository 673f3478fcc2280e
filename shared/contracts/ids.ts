import * as v from "valibot";

/** sha256 of the submission (design, section 8), 64 lower-case hex digits. */
export const JobId = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "must be 64 lower-case hex digits"));
export type JobId = v.InferOutput<typeof JobId>;

/** A row's bigint key. Keys stay far below 2^53, so they travel as numbers. */
export const RowId = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
export type RowId = v.InferOutput<typeof RowId>;

export const Run = v.pipe(v.number(), v.safeInteger(), v.minValue(1));

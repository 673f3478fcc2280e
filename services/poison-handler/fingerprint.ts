import { createHash } from "node:crypto";

export interface Likeness {
  /** Of the error: what is the same wherever it happens. */
  readonly code: string;
  readonly message: string;
  /** Where in our code it arose: then it is alike by this, whatever its message says. */
  readonly at: string | null;
  readonly taskType: string | null;
  readonly stageName: string | null;
}

/** 16 hex digits that failures share which have the same cause, as far as their texts tell. */
export function fingerprintOf({ code, message, at, taskType, stageName }: Likeness): string {
  return createHash("sha256").update(JSON.stringify([code, at ?? message, taskType, stageName])).digest("hex").slice(0, 16);
}

/** A message without what differs from case to case: ids, numbers, times, and what is quoted. At most 300 characters. */
export function normalizeMessage(message: string): string {
  return message
    .replace(/"[^"]*"|'[^']*'|`[^`]*`|“[^”]*”/g, "…")
    .replace(/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi, "<id>")
    .replace(/\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b/gi, "<id>")
    .replace(/\d+(?:[.,:]\d+)*/g, "<n>")
    .replace(/\s+/g, " ")
    .trim()
    .slice(0, 300);
}

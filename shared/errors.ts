/** Why no retry can succeed; becomes the dead-letter reason, by which poison messages are grouped. */
export type PermanentCode =
  | "invalid-message"
  | "unknown-job"
  | "unknown-task"
  | "unknown-type"
  | "contract-violation"
  | "task-failed"
  | "interrupted"
  | "invalid-configuration";

/** No retry can succeed. Anything else that is thrown is transient. */
export class PermanentError extends Error {
  override readonly name = "PermanentError";
  readonly code: PermanentCode;

  constructor(code: PermanentCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** What is recorded of an error: never more than 2,000 characters, and always text that Postgres can store. */
export interface ErrorRecord {
  readonly code: string;
  readonly message: string;
}

export function describeError(error: unknown, code?: string): ErrorRecord {
  const known = error instanceof PermanentError ? error.code : "error";
  const message = error instanceof Error ? error.message || error.name : String(error);
  return { code: code ?? known, message: storableText(message).slice(0, 2000) };
}

/** Postgres stores neither U+0000 nor lone surrogates. */
export function storableText(text: string): string {
  return text.toWellFormed().replaceAll("\u0000", "\ufffd");
}

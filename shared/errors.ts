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
  /** Where in our code it arose: file and function, as `services/task-runner/tasks/x.ts readBlob`. */
  readonly at?: string;
}

export function describeError(error: unknown, code?: string): ErrorRecord {
  const known = error instanceof PermanentError ? error.code : "error";
  const message = error instanceof Error ? error.message || error.name : String(error);
  const at = error instanceof Error ? findOrigin(error) : undefined;
  return { code: code ?? known, message: storableText(message).slice(0, 2000), ...(at !== undefined && { at }) };
}

const projectUrl = new URL("../", import.meta.url);
/** Whatever is thrown passes here, so a frame here tells nothing: the message does, as it names the fields at fault. */
const passages = /^(shared\/contracts\/|services\/task-runner\/run-attempt\.ts)/;

/** The first frame of the stack in `services` or `shared`, without line numbers, which change with every edit. */
function findOrigin({ stack, message }: Error): string | undefined {
  if (typeof stack !== "string") return undefined;
  const frames = stack.slice(stack.indexOf(message) + message.length).split("\n").slice(0, 50);
  for (const frame of frames) {
    const path = /(?:file:\/\/)?(\/[^():]+):\d+:\d+\)?$/.exec(frame)?.[1];
    if (path === undefined || !path.startsWith(projectUrl.pathname)) continue;
    const file = path.slice(projectUrl.pathname.length);
    if (!/^(services|shared)\//.test(file)) continue;
    if (passages.test(file)) return undefined;
    const name = /^\s*at (?:async )?(?:new )?([\w$.]+) \(/.exec(frame)?.[1]?.replace(/^Object\./, "");
    return (name === undefined ? file : `${file} ${name}`).slice(0, 200);
  }
  return undefined;
}

/** Postgres stores neither U+0000 nor lone surrogates. */
export function storableText(text: string): string {
  return text.toWellFormed().replaceAll("\u0000", "\ufffd");
}

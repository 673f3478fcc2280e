import * as v from "valibot";
import { PermanentError } from "../errors.ts";
import type { OutgoingMessage } from "./transport.ts";

/**
 * The text of a message in Queue Storage: base64 of one line of JSON (the header) and the body as it is. Queue Storage has neither
 * message ids of ours nor properties; a header in front costs a fixed number of bytes, where a body inside JSON could double.
 */
const Header = v.object({
  sluice: v.literal(1),
  messageId: v.string(),
  deadLettered: v.optional(
    v.object({
      reason: v.string(),
      description: v.string(),
      deliveryCount: v.number(),
      enqueuedAt: v.string(),
      identity: v.optional(v.string()),
    }),
  ),
});
type Header = v.InferOutput<typeof Header>;
/** What goes with a dead letter. `identity`: what the broker knew it by in its queue. */
export type DeadLetterDetails = Required<NonNullable<Header["deadLettered"]>>;

/** 64 KiB of base64, the limit of the service. */
const maxTextBytes = 49_152;
/** Enough for the header that dead-lettering will need. */
const headerBytes = 2_048;

/** The largest body that can be sent, and dead-lettered with a reason later on. */
export const maxBodyBytes = maxTextBytes - headerBytes;

export interface DecodedText {
  /** Only of messages of ours. */
  readonly messageId?: string;
  readonly body: string;
  readonly deadLettered?: { readonly reason: string; readonly description: string };
  /** Of a dead letter: what the broker knew it by in the queue it came from; the same in each copy that was made of it. */
  readonly identity?: string;
}

/** Throws PermanentError `invalid-message` if the id leaves no room. */
export function encodeMessage({ messageId, body }: OutgoingMessage): string {
  const text = encode({ sluice: 1, messageId }, body);
  if (text === undefined) {
    throw new PermanentError("invalid-message", `the id of message ${messageId.slice(0, 100)}… is too long`);
  }
  return text;
}

/**
 * The text of a dead letter; the description is cut to what fits. Undefined if not even an empty one does, which only a body that
 * somebody else sent can cause.
 */
export function encodeDeadLetter(
  { messageId, body }: OutgoingMessage,
  deadLettered: DeadLetterDetails,
): string | undefined {
  for (let length = 1_000; length >= 1; length = Math.floor(length / 2)) {
    const description = deadLettered.description.slice(0, length).toWellFormed();
    const text = encode({ sluice: 1, messageId, deadLettered: { ...deadLettered, description } }, body);
    if (text !== undefined) return text;
  }
  return encode({ sluice: 1, messageId, deadLettered: { ...deadLettered, description: "" } }, body);
}

/** Never throws: what isn't ours is a body as it is, or the text that its base64 stands for. */
export function decodeText(text: string): DecodedText {
  const decoded = fromBase64(text);
  if (decoded === undefined) return { body: text };
  const end = decoded.indexOf("\n");
  const header = decoded.startsWith('{"sluice":') && end > 0 ? parseHeader(decoded.slice(0, end)) : undefined;
  if (header !== undefined) {
    const { messageId, deadLettered } = header;
    const body = decoded.slice(end + 1);
    if (deadLettered === undefined) return { messageId, body };
    const { reason, description, identity } = deadLettered;
    return { messageId, body, deadLettered: { reason, description }, ...(identity !== undefined && { identity }) };
  }
  // A word such as "AAAA" is base64 too; what it stands for is not text.
  // deno-lint-ignore no-control-regex
  return { body: /[\u0000-\u0008\u000b\u000c\u000e-\u001f]/.test(decoded) ? text : decoded };
}

function encode(header: Header, body: string): string | undefined {
  const bytes = Buffer.from(`${JSON.stringify(header)}\n${body}`);
  return bytes.length <= maxTextBytes ? bytes.toString("base64") : undefined;
}

function fromBase64(text: string): string | undefined {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.from(text, "base64"));
  } catch {
    return undefined; // bytes that are no text
  }
}

function parseHeader(line: string): Header | undefined {
  try {
    const result = v.safeParse(Header, JSON.parse(line));
    return result.success ? result.output : undefined;
  } catch {
    return undefined; // not JSON
  }
}

import { type JobJson } from "bullmq";
import * as v from "valibot";
import type { OutgoingMessage } from "./transport.ts";

const DeadLettered = v.object({ reason: v.string(), description: v.string() });

/** What a job of ours carries. PostgreSQL's jsonb can't hold U+0000, so a body that has one travels as base64. */
const Envelope = v.object({
  messageId: v.string(),
  body: v.optional(v.string()),
  bodyBase64: v.optional(v.string()),
  deadLettered: v.optional(DeadLettered),
});

export interface DecodedJob {
  readonly messageId: string;
  readonly body: string;
  readonly deadLettered?: v.InferOutput<typeof DeadLettered>;
}

/**
 * A job id of ours. BullMQ forbids colons; the prefix keeps clear of the numbers it gives to jobs without an id, and of its keys
 * (`wait`, `meta`…).
 */
export function jobIdOf(messageId: string): string {
  return `m-${messageId.replaceAll("%", "%25").replaceAll(":", "%3A").replaceAll("\u0000", "%00")}`;
}

/** `timestamp` in milliseconds since 1970. */
export function encodeJob(id: string, { messageId, body }: OutgoingMessage, timestamp: number): JobJson {
  return jobJson(id, { messageId, ...encodeBody(body) }, timestamp);
}

/** As old as the message it was: a copy that has to be made again, of the same sending, has the same identity. */
export function encodeDeadLetterJob(
  id: string,
  { messageId, body }: OutgoingMessage,
  deadLettered: { reason: string; description: string; deliveryCount: number; enqueuedAt: string },
): JobJson {
  const { reason, description, deliveryCount, enqueuedAt } = deadLettered;
  const storable = { reason: storableText(reason), description: storableText(description), deliveryCount, enqueuedAt };
  return jobJson(id, { messageId, ...encodeBody(body), deadLettered: storable }, Date.parse(enqueuedAt));
}

/** Never throws: the data of a job that isn't ours is a body as it is, or the text it is the JSON of. */
export function decodeJob(id: string, data: string): DecodedJob {
  const value = parseJson(data);
  const { success, output } = v.safeParse(Envelope, value);
  if (success && (output.body !== undefined || output.bodyBase64 !== undefined)) {
    const body = output.body ?? Buffer.from(output.bodyBase64 ?? "", "base64").toString();
    return { messageId: output.messageId, body, ...(output.deadLettered && { deadLettered: output.deadLettered }) };
  }
  return { messageId: id, body: typeof value === "string" ? value : data };
}

function jobJson(id: string, data: unknown, timestamp: number): JobJson {
  return {
    id,
    name: "message",
    data: JSON.stringify(data),
    opts: { removeOnComplete: true, removeOnFail: true, attempts: 1, timestamp },
    progress: 0,
    attemptsMade: 0,
    attemptsStarted: 0,
    stalledCounter: 0,
    timestamp,
    failedReason: "",
    returnvalue: "null",
  };
}

function encodeBody(body: string): { body: string } | { bodyBase64: string } {
  return body.includes("\u0000") ? { bodyBase64: Buffer.from(body).toString("base64") } : { body: body.toWellFormed() };
}

function storableText(text: string): string {
  return text.toWellFormed().replaceAll("\u0000", "\ufffd");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // not JSON, so not ours
  }
}

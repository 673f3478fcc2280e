import { randomUUID } from "node:crypto";
import type { MessageContent } from "../queue/message.ts";
import { compoundAt, isNull, readTimestamp, readUnsigned, readVariable, sectionCodes, sectionsOf, skipValue } from "./encoded.ts";

/** A message as it came: the broker makes a new header and new annotations for it, and leaves all else byte for byte. */
export interface AmqpContent extends MessageContent {
  readonly durable: boolean;
  readonly priority: number;
  /** Encoded keys and values, in turn, that are the sender's and not the broker's. */
  readonly annotations: { readonly encoded: Buffer; readonly count: number };
  /** From the properties to the footer. */
  readonly bare: Buffer;
  /** Where in `bare` the application properties are, or would be: then it is empty. */
  readonly applicationProperties: { readonly start: number; readonly end: number };
}

/** Annotations that the broker writes itself. */
const brokersAnnotations: ReadonlySet<string> = new Set([
  "x-opt-sequence-number",
  "x-opt-enqueued-time",
  "x-opt-locked-until",
  "x-opt-enqueue-sequence-number",
  "x-opt-message-state",
  "x-opt-deadletter-source",
  "x-opt-scheduled-enqueue-time",
]);

const nothing = Buffer.alloc(0);
const none = { encoded: nothing, count: 0 };

/** Throws if it isn't a message. Keeps a copy, since the bytes are part of a larger buffer that wouldn't be freed. */
export function parseContent(received: Buffer): AmqpContent {
  const bytes = Buffer.from(received);
  let header = { durable: false, priority: 4, timeToLiveMs: Infinity };
  let annotations: ReturnType<typeof parseAnnotations> = { foreign: none, scheduledFor: undefined };
  let hasMessageId = false;
  let bareStart = 0;
  let propertiesEnd = 0;
  let applicationPropertiesEnd = 0;
  let last = 0;
  for (const { code, valueStart, end } of sectionsOf(bytes)) {
    if (code < last) throw new Error("the sections are out of order");
    last = code;
    if (code === sectionCodes.header) header = parseHeader(bytes, valueStart);
    if (code === sectionCodes.messageAnnotations) annotations = parseAnnotations(bytes, valueStart);
    if (code === sectionCodes.properties) {
      const { count, itemsStart } = compoundAt(bytes, valueStart);
      hasMessageId = count > 0 && !isNull(bytes, itemsStart);
    }
    if (code < sectionCodes.properties) bareStart = end;
    if (code <= sectionCodes.properties) propertiesEnd = end;
    if (code <= sectionCodes.applicationProperties) applicationPropertiesEnd = end;
  }
  // Azure gives an id to a message that has none.
  const properties = hasMessageId
    ? bytes.subarray(bareStart, propertiesEnd)
    : withMessageId(bytes.subarray(bareStart, propertiesEnd));
  const bare = hasMessageId ? bytes.subarray(bareStart) : Buffer.concat([properties, bytes.subarray(propertiesEnd)]);
  const start = properties.length;
  return {
    ...header,
    bytes: bytes.length,
    annotations: annotations.foreign,
    scheduledFor: annotations.scheduledFor,
    bare,
    applicationProperties: { start, end: start + applicationPropertiesEnd - propertiesEnd },
    messageId: () => readMessageId(bare),
  };
}

function parseHeader(bytes: Buffer, at: number): Pick<AmqpContent, "durable" | "priority" | "timeToLiveMs"> {
  const { count, itemsStart } = compoundAt(bytes, at);
  const fields: (number | undefined)[] = [];
  for (let index = 0, start = itemsStart; index < Math.min(count, 3); index++) {
    fields.push(isNull(bytes, start) ? undefined : readUnsigned(bytes, start));
    start = skipValue(bytes, start);
  }
  const [durable = 0, priority = 4, timeToLiveMs = Infinity] = fields;
  return { durable: durable === 1, priority, timeToLiveMs };
}

function parseAnnotations(
  bytes: Buffer,
  at: number,
): { foreign: AmqpContent["annotations"]; scheduledFor: number | undefined } {
  const { count, itemsStart } = compoundAt(bytes, at);
  const foreign: Buffer[] = [];
  let scheduledFor: number | undefined;
  for (let index = 0, start = itemsStart; index < count; index += 2) {
    const valueStart = skipValue(bytes, start);
    const end = skipValue(bytes, valueStart);
    const key = readVariable(bytes, start).toString("ascii");
    if (key === "x-opt-scheduled-enqueue-time" && !isNull(bytes, valueStart)) scheduledFor = readTimestamp(bytes, valueStart);
    if (!brokersAnnotations.has(key)) foreign.push(bytes.subarray(start, end));
    start = end;
  }
  return { foreign: foreign.length === 0 ? none : { encoded: Buffer.concat(foreign), count: foreign.length * 2 }, scheduledFor };
}

/** The properties section with an id in first place, whose place is empty. */
function withMessageId(section: Buffer): Buffer {
  const id = randomUUID().replaceAll("-", "");
  let count = 1;
  let rest: Buffer = nothing;
  if (section.length > 0) {
    const list = compoundAt(section, skipValue(section, 1));
    count = Math.max(list.count, 1);
    if (list.count > 0) rest = section.subarray(skipValue(section, list.itemsStart), list.end);
  }
  const head = Buffer.alloc(12);
  head.set([0x00, 0x53, sectionCodes.properties, 0xd0]);
  head.writeUInt32BE(4 + 2 + id.length + rest.length, 4);
  head.writeUInt32BE(count, 8);
  return Buffer.concat([head, Buffer.from([0xa1, id.length]), Buffer.from(id), rest]);
}

function readMessageId(bare: Buffer): string {
  const { itemsStart } = compoundAt(bare, skipValue(bare, 1));
  const code = bare.readUInt8(itemsStart);
  if (code === 0xa1 || code === 0xb1) return readVariable(bare, itemsStart).toString();
  if (code === 0xa0 || code === 0xb0) return readVariable(bare, itemsStart).toString("hex");
  if (code === 0x98) return bare.toString("hex", itemsStart + 1, itemsStart + 17);
  return String(readUnsigned(bare, itemsStart));
}

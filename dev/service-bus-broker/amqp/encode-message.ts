import type { MessageState, PropertyChanges, QueueMessage } from "../queue/message.ts";
import { withChanges } from "./application-properties.ts";
import type { AmqpContent } from "./content.ts";
import { sectionCodes } from "./encoded.ts";

const stateCodes: Readonly<Record<MessageState, number>> = { active: 0, deferred: 1, scheduled: 2 };

const types = { int: 0x71, long: 0x81, timestamp: 0x83 } as const;

const keys = {
  sequenceNumber: symbol("x-opt-sequence-number"),
  enqueuedTime: symbol("x-opt-enqueued-time"),
  lockedUntil: symbol("x-opt-locked-until"),
  enqueuedSequenceNumber: symbol("x-opt-enqueue-sequence-number"),
  scheduledFor: symbol("x-opt-scheduled-enqueue-time"),
  state: symbol("x-opt-message-state"),
  deadLetterSource: symbol("x-opt-deadletter-source"),
};

/** Long enough for all annotations of ours but the dead-letter source. */
const annotationsBytes = 260;
const headerBytes = 18;
const mapHeadBytes = 12;

/** What goes over the wire: new header, new annotations, and the sender's own bytes. */
export function encodeMessage(message: QueueMessage<AmqpContent>, lockedUntil?: number): Buffer {
  const { content, changes, deadLetterSource } = message;
  const bare = changes ? changedBare(content, changes) : content.bare;
  const source = deadLetterSource === undefined ? undefined : Buffer.from(deadLetterSource);
  const foreign = content.annotations;
  const length = headerBytes + mapHeadBytes + annotationsBytes + (source?.length ?? 0) + foreign.encoded.length + bare.length;
  const bytes = Buffer.allocUnsafe(length);
  const mapAt = writeHeader(bytes, message);
  let at = mapAt + mapHeadBytes;
  let count = 0;
  const put = (key: Buffer, type: number, value: number) => {
    at += key.copy(bytes, at);
    bytes[at] = type;
    at = type === types.int ? bytes.writeInt32BE(value, at + 1) : writeInt64(bytes, value, at + 1);
    count += 2;
  };
  put(keys.sequenceNumber, types.long, message.sequenceNumber);
  put(keys.enqueuedTime, types.timestamp, message.enqueuedAt);
  put(keys.enqueuedSequenceNumber, types.long, message.enqueuedSequenceNumber);
  if (lockedUntil !== undefined) put(keys.lockedUntil, types.timestamp, lockedUntil);
  if (message.scheduledFor !== undefined) put(keys.scheduledFor, types.timestamp, message.scheduledFor);
  if (message.state !== "active") put(keys.state, types.int, stateCodes[message.state]);
  if (source) {
    at += keys.deadLetterSource.copy(bytes, at);
    bytes[at] = 0xb1;
    at = bytes.writeUInt32BE(source.length, at + 1);
    at += source.copy(bytes, at);
    count += 2;
  }
  at += foreign.encoded.copy(bytes, at);
  count += foreign.count;
  bytes.set([0x00, 0x53, sectionCodes.messageAnnotations, 0xd1], mapAt);
  bytes.writeUInt32BE(at - mapAt - 8, mapAt + 4);
  bytes.writeUInt32BE(count, mapAt + 8);
  at += bare.copy(bytes, at);
  return bytes.subarray(0, at);
}

/** The delivery count is always written, even where 0 is the default: some SDKs read it without a default. */
function writeHeader(bytes: Buffer, { content, timeToLiveMs, deliveryCount }: QueueMessage<AmqpContent>): number {
  const hasTtl = timeToLiveMs !== Infinity;
  bytes.set([0x00, 0x53, sectionCodes.header, 0xc0, hasTtl ? 15 : 11, 5, content.durable ? 0x41 : 0x42, 0x50, content.priority]);
  let at = 9;
  if (hasTtl) {
    bytes[at] = 0x70;
    at = bytes.writeUInt32BE(Math.min(timeToLiveMs, 0xffff_ffff), at + 1);
  } else bytes[at++] = 0x40;
  bytes[at++] = 0x42; // first-acquirer
  bytes[at] = 0x70;
  return bytes.writeUInt32BE(deliveryCount, at + 1);
}

function changedBare({ bare, applicationProperties: { start, end } }: AmqpContent, changes: PropertyChanges): Buffer {
  return Buffer.concat([bare.subarray(0, start), withChanges(bare.subarray(start, end), changes), bare.subarray(end)]);
}

function symbol(name: string): Buffer {
  return Buffer.concat([Buffer.from([0xa3, name.length]), Buffer.from(name, "ascii")]);
}

/** Faster than a BigInt, and exact for what a number can hold. */
function writeInt64(bytes: Buffer, value: number, at: number): number {
  bytes.writeInt32BE(Math.floor(value / 0x1_0000_0000), at);
  return bytes.writeUInt32BE(value % 0x1_0000_0000, at + 4);
}

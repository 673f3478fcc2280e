/** Reading encoded AMQP values where they stand, without decoding what nobody asks for. */

export const sectionCodes = {
  header: 0x70,
  deliveryAnnotations: 0x71,
  messageAnnotations: 0x72,
  properties: 0x73,
  applicationProperties: 0x74,
  data: 0x75,
} as const;

const symbolicSections = new Map(Object.entries({
  "amqp:header:list": 0x70,
  "amqp:delivery-annotations:map": 0x71,
  "amqp:message-annotations:map": 0x72,
  "amqp:properties:list": 0x73,
  "amqp:application-properties:map": 0x74,
  "amqp:data:binary": 0x75,
  "amqp:amqp-sequence:list": 0x76,
  "amqp:amqp-value:*": 0x77,
  "amqp:footer:map": 0x78,
}));

export interface Section {
  readonly code: number;
  readonly start: number;
  readonly valueStart: number;
  readonly end: number;
}

/** Where the value that begins there ends. */
export function skipValue(bytes: Buffer, start: number): number {
  const code = bytes.readUInt8(start);
  if (code === 0x00) return skipValue(bytes, skipValue(bytes, start + 1)); // described: the descriptor, then the value
  switch (code >> 4) {
    case 0x4:
      return start + 1;
    case 0x5:
      return start + 2;
    case 0x6:
      return start + 3;
    case 0x7:
      return start + 5;
    case 0x8:
      return start + 9;
    case 0x9:
      return start + 17;
    case 0xa:
    case 0xc:
    case 0xe:
      return start + 2 + bytes.readUInt8(start + 1);
    case 0xb:
    case 0xd:
    case 0xf:
      return start + 5 + bytes.readUInt32BE(start + 1);
    default:
      throw new Error(`no AMQP type has the code 0x${code.toString(16)}`);
  }
}

export function* sectionsOf(bytes: Buffer): Generator<Section> {
  for (let start = 0; start < bytes.length;) {
    if (bytes[start] !== 0x00) throw new Error(`no section begins at byte ${start}`);
    const valueStart = skipValue(bytes, start + 1);
    const end = skipValue(bytes, valueStart);
    if (end > bytes.length) throw new Error("the last section is cut off");
    yield { code: descriptorCode(bytes, start + 1), start, valueStart, end };
    start = end;
  }
}

function descriptorCode(bytes: Buffer, at: number): number {
  const type = bytes.readUInt8(at);
  if (type === 0x53) return bytes.readUInt8(at + 1);
  if (type === 0x80) return Number(bytes.readBigUInt64BE(at + 1));
  const code = type === 0xa3 ? symbolicSections.get(readVariable(bytes, at).toString("ascii")) : undefined;
  if (code === undefined) throw new Error(`no section is described so at byte ${at}`);
  return code;
}

export interface Compound {
  readonly count: number;
  readonly itemsStart: number;
  readonly end: number;
}

/** A list or a map. Of a map, keys and values are counted each. */
export function compoundAt(bytes: Buffer, at: number): Compound {
  const code = bytes.readUInt8(at);
  const end = skipValue(bytes, at);
  if (code === 0x45) return { count: 0, itemsStart: end, end };
  if (code === 0xc0 || code === 0xc1) return { count: bytes.readUInt8(at + 2), itemsStart: at + 3, end };
  if (code === 0xd0 || code === 0xd1) return { count: bytes.readUInt32BE(at + 5), itemsStart: at + 9, end };
  throw new Error(`neither a list nor a map at byte ${at}`);
}

export function isNull(bytes: Buffer, at: number): boolean {
  return bytes.readUInt8(at) === 0x40;
}

/** The bytes of a binary, string or symbol. */
export function readVariable(bytes: Buffer, at: number): Buffer {
  const code = bytes.readUInt8(at);
  if (code >> 4 === 0xa) return bytes.subarray(at + 2, skipValue(bytes, at));
  if (code >> 4 === 0xb) return bytes.subarray(at + 5, skipValue(bytes, at));
  throw new Error(`no binary, string or symbol at byte ${at}`);
}

/** An unsigned integer, or a boolean as 0 or 1. */
export function readUnsigned(bytes: Buffer, at: number): number {
  const code = bytes.readUInt8(at);
  switch (code) {
    case 0x41:
      return 1;
    case 0x42:
    case 0x43:
    case 0x44:
      return 0;
    case 0x50:
    case 0x52:
    case 0x53:
    case 0x56:
      return bytes.readUInt8(at + 1);
    case 0x60:
      return bytes.readUInt16BE(at + 1);
    case 0x70:
      return bytes.readUInt32BE(at + 1);
    case 0x80:
      return Number(bytes.readBigUInt64BE(at + 1));
    default:
      throw new Error(`no unsigned integer at byte ${at}`);
  }
}

/** Of a timestamp: milliseconds since 1970. */
export function readTimestamp(bytes: Buffer, at: number): number {
  if (bytes.readUInt8(at) !== 0x83) throw new Error(`no timestamp at byte ${at}`);
  return Number(bytes.readBigInt64BE(at + 1));
}

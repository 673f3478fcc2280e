import rhea from "rhea";
import type { PropertyChanges } from "../queue/message.ts";
import { compoundAt, readVariable, sectionCodes, sectionsOf, skipValue } from "./encoded.ts";

/** The section with the changes in it. What isn't changed keeps its encoding, and so its type. */
export function withChanges(section: Buffer, changes: PropertyChanges): Buffer {
  const kept: Buffer[] = section.length === 0 ? [] : pairsOf(section, (key) => !Object.hasOwn(changes, key));
  const added = pairsOf(encodeSection(changes), () => true);
  const pairs = [...kept, ...added];
  const length = pairs.reduce((sum, pair) => sum + pair.length, 0);
  const head = Buffer.alloc(12);
  head.set([0x00, 0x53, sectionCodes.applicationProperties, 0xd1]);
  head.writeUInt32BE(4 + length, 4);
  head.writeUInt32BE(pairs.length * 2, 8);
  return Buffer.concat([head, ...pairs]);
}

function pairsOf(section: Buffer, keep: (key: string) => boolean): Buffer[] {
  const { count, itemsStart } = compoundAt(section, skipValue(section, 1));
  const pairs: Buffer[] = [];
  for (let index = 0, start = itemsStart; index < count; index += 2) {
    const end = skipValue(section, skipValue(section, start));
    if (keep(readVariable(section, start).toString())) pairs.push(section.subarray(start, end));
    start = end;
  }
  return pairs;
}

/** rhea encodes messages only, and whole ones. */
function encodeSection(properties: PropertyChanges): Buffer {
  const encoded = rhea.message.encode({ application_properties: properties, body: null });
  for (const { code, start, end } of sectionsOf(encoded)) {
    if (code === sectionCodes.applicationProperties) return encoded.subarray(start, end);
  }
  throw new Error("rhea encoded no application properties");
}

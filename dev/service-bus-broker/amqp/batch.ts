import { readVariable, sectionCodes, sectionsOf } from "./encoded.ts";

/** The message format that says: each data section is a whole message. */
export const batchFormat = 0x80013700;

export function splitBatch(bytes: Buffer): Buffer[] {
  const messages: Buffer[] = [];
  for (const { code, valueStart } of sectionsOf(bytes)) {
    if (code === sectionCodes.data) messages.push(readVariable(bytes, valueStart));
  }
  return messages;
}

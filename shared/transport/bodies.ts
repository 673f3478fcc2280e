import { PermanentError } from "../errors.ts";
import type { OutgoingMessage } from "./transport.ts";

/** Throws PermanentError `invalid-message` if the body of one message is larger than `maxBodyBytes` of UTF-8. */
export function checkBodies(messages: readonly OutgoingMessage[], maxBodyBytes: number): void {
  for (const { messageId, body } of messages) {
    const bytes = Buffer.byteLength(body);
    if (bytes > maxBodyBytes) {
      throw new PermanentError("invalid-message", `message ${messageId} has ${bytes} bytes, at most ${maxBodyBytes} can be sent`);
    }
  }
}

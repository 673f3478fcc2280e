import type { Transport } from "../../shared/transport/transport.ts";

/** A real transport that delivers every message twice: the second copy under an id of its own, as a re-sending has. */
export function sendTwice(transport: Transport): Transport {
  return {
    ...transport,
    async send(queue, messages) {
      await transport.send(queue, messages);
      await transport.send(queue, messages.map(({ messageId, body }) => ({ messageId: `${messageId}-again`, body })));
    },
  };
}

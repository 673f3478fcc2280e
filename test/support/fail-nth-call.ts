import type { LockedMessage, Transport } from "../../shared/transport/transport.ts";

export interface FailingTransport extends Transport {
  /** The nth call from now rejects, before or after it took effect. 0: none. */
  failAt(n: number, moment: "before" | "after"): void;
  /** How many calls failed since. */
  readonly struck: number;
}

/** A real transport of which one call, of its own or of a message it delivered, fails. */
export function failNthCall(transport: Transport): FailingTransport {
  let calls = 0;
  let failAt = 0;
  let moment: "before" | "after" = "before";
  let struck = 0;

  /** A receive that brought nothing has no effect to lose; it isn't counted. */
  async function call<Result>(what: string, run: () => Promise<Result>, hasEffect = (_: Result) => true): Promise<Result> {
    if (moment === "before" && failAt > 0 && struck === 0 && calls + 1 >= failAt) {
      calls += 1;
      struck += 1;
      throw new Error(`${what} failed before it took effect`);
    }
    const result = await run();
    if (!hasEffect(result)) return result;
    calls += 1;
    if (moment === "after" && failAt > 0 && struck === 0 && calls >= failAt) {
      struck += 1;
      throw new Error(`${what} failed after it took effect`);
    }
    return result;
  }

  function failingMessage(message: LockedMessage): LockedMessage {
    return {
      ...message,
      renewLock: () => call("renewLock", () => message.renewLock()),
      complete: () => call("complete", () => message.complete()),
      abandon: () => call("abandon", () => message.abandon()),
      moveToDeadLetters: (reason, description) => call("moveToDeadLetters", () => message.moveToDeadLetters(reason, description)),
    };
  }

  return {
    ...transport,
    failAt(n, when) {
      calls = 0;
      struck = 0;
      failAt = n;
      moment = when;
    },
    get struck() {
      return struck;
    },
    send: (queue, messages) => call("send", () => transport.send(queue, messages)),
    async receive(queue, options) {
      const messages = await call("receive", () => transport.receive(queue, options), (received) => received.length > 0);
      return messages.map(failingMessage);
    },
  };
}

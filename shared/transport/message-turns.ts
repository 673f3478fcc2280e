import { LockLostError } from "./transport.ts";

/** The calls of one message, one after the other. */
export interface MessageTurns {
  /** Makes the call when those before have ended. Rejects with LockLostError if one of them settled the message. */
  renew(call: () => Promise<void>): Promise<void>;
  /** The same, and the message is settled if the call succeeds. */
  settle(call: () => Promise<void>): Promise<void>;
}

/**
 * A renewal that overtakes another, or a settlement, would use a pop receipt that is void, or find the message gone, or, the worst,
 * hide for another lock what was abandoned.
 */
export function createMessageTurns(messageId: string): MessageTurns {
  let last: Promise<unknown> = Promise.resolve();
  let settled = false;
  const inTurn = (call: () => Promise<void>): Promise<void> => {
    const turn = last.then(() => {
      if (settled) throw new LockLostError(`message ${messageId} is settled already`);
      return call();
    });
    last = turn.catch(() => {});
    return turn;
  };
  return {
    renew: inTurn,
    settle: (call) =>
      inTurn(async () => {
        await call();
        settled = true;
      }),
  };
}

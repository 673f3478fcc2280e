import type { Clock } from "./clock.ts";
import type { OpenConnection } from "./amqp/open-connection.ts";

/** How long Azure lets a link or a connection without links be. */
export interface IdleTimes {
  readonly linkMs: number;
  readonly connectionMs: number;
}

export const azureIdleTimes: IdleTimes = { linkMs: 600_000, connectionMs: 300_000 };

/** How exact these times are. */
const checkMs = 1_000;

/** What Azure says when it closes a connection. */
export function inactiveConnection(allowedMs: number): { condition: string; description: string } {
  return {
    condition: "amqp:connection:forced",
    description: `The connection was inactive for more than the allowed ${allowedMs} milliseconds and is closed by container ` +
      "'LinkTracker'.",
  };
}

/** Ends what has been idle for too long, and links whose token has expired. Returns what stops it. */
export function startUpkeep(connections: () => readonly OpenConnection[], idle: IdleTimes, clock: Clock): () => void {
  let cancel = () => {};

  function check(): void {
    const now = clock.now();
    for (const connection of connections()) {
      connection.detach(({ right, address, usedAt }) => {
        const end = right === "Send" ? "publisher" : "consumer";
        if (usedAt() + idle.linkMs <= now) {
          return {
            condition: "amqp:link:detach-forced",
            description: `The link '${address}' is force detached by the broker due to errors occurred in ${end}. ` +
              `Detach origin: AmqpMessage${right === "Send" ? "Publisher" : "Consumer"}.IdleTimerExpired: Idle timeout: ${
                clockTime(idle.linkMs)
              }.`,
          };
        }
        return connection.allows(right, address) ? undefined : {
          condition: "amqp:unauthorized-access",
          description: `The link '${address}' is force detached. Code: RenewToken. Details: Unauthorized access. ` +
            `'${right}' claim(s) are required to perform this operation.`,
        };
      });
      const { linklessSince } = connection;
      if (linklessSince !== undefined && linklessSince + idle.connectionMs <= now) {
        connection.connection.close(inactiveConnection(idle.connectionMs));
      }
    }
    cancel = clock.callAt(now + checkMs, check);
  }

  cancel = clock.callAt(clock.now() + checkMs, check);
  return () => cancel();
}

/** As .NET writes a duration: 00:10:00. */
function clockTime(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  return [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60, seconds % 60].map((part) => String(part).padStart(2, "0"))
    .join(":");
}

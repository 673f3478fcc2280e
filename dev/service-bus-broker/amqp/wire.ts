import type { Socket } from "node:net";

/** A connection's socket, with what a network may do to it. */
export interface Wire {
  /** From now on nothing is heard of it and it hears nothing, as after the loss of a host or a route. */
  fallSilent(): void;
  readonly isSilent: boolean;
  destroy(): void;
}

/**
 * Takes over the writing. What rhea writes frame by frame within one turn goes out together, which saves a system call for each,
 * and `delayMs` later, in order.
 */
export function createWire(socket: Socket, delayMs: () => number): Wire {
  const write = socket.write.bind(socket);
  let silent = false;
  let corked = false;
  let lastDueAt = 0;
  const delayed: (string | Uint8Array)[] = [];

  function writeNow(bytes: string | Uint8Array): void {
    if (silent || socket.destroyed) return;
    if (!corked) {
      corked = true;
      socket.cork();
      process.nextTick(() => {
        corked = false;
        socket.uncork();
      });
    }
    write(bytes);
  }

  /** Timers of nearly the same time fire in any order, so each writes what has waited longest. */
  function writeFirst(): void {
    const bytes = delayed.shift();
    if (bytes !== undefined) writeNow(bytes);
  }

  socket.write = (bytes: string | Uint8Array) => {
    const now = performance.now();
    const dueAt = Math.max(now + delayMs(), lastDueAt);
    lastDueAt = dueAt;
    if (dueAt <= now && delayed.length === 0) writeNow(bytes);
    else {
      delayed.push(bytes);
      setTimeout(writeFirst, dueAt - now);
    }
    return true;
  };

  return {
    fallSilent() {
      silent = true;
      socket.pause();
    },
    get isSilent() {
      return silent;
    },
    destroy: () => void socket.destroy(),
  };
}

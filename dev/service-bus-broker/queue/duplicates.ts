/** The message ids a queue has seen within its window. */
export interface Duplicates {
  readonly size: number;
  /** Whether the id was seen within the window before; if not, it counts as seen from now on. The window never moves. */
  isDuplicate(messageId: string, now: number, windowMs: number): boolean;
  /** Forgets what is older than the window. */
  evict(now: number, windowMs: number): void;
  /** When the oldest was seen. */
  oldest(): number | undefined;
}

export function createDuplicates(): Duplicates {
  /** In the order in which they were first seen. */
  const firstSeen = new Map<string, number>();

  function evict(now: number, windowMs: number): void {
    for (const [messageId, time] of firstSeen) {
      if (time + windowMs > now) break;
      firstSeen.delete(messageId);
    }
  }

  return {
    get size() {
      return firstSeen.size;
    },
    isDuplicate(messageId, now, windowMs) {
      evict(now, windowMs);
      if (firstSeen.has(messageId)) return true;
      firstSeen.set(messageId, now);
      return false;
    },
    evict,
    oldest: () => firstSeen.values().next().value,
  };
}

/** What has come of numbers 0, 1, 2, … that are sent in order, in memory bounded by how far apart they come. */
export interface Sequence {
  /** False if it came before. */
  note(number: number): boolean;
  /** Different numbers that came. */
  readonly received: number;
  /** The first that is missing. */
  readonly next: number;
}

export function createSequence(): Sequence {
  let next = 0;
  const beyond = new Set<number>();
  return {
    note(number) {
      if (number < next || beyond.has(number)) return false;
      beyond.add(number);
      while (beyond.delete(next)) next++;
      return true;
    },
    get received() {
      return next + beyond.size;
    },
    get next() {
      return next;
    },
  };
}

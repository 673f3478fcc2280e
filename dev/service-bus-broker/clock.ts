/** Where the broker gets its time from. Tests bring one that they move by hand. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Calls back once, at that time or right after it; what it returns calls it off. */
  callAt(time: number, callback: () => void): () => void;
}

/** What a timer of Node can wait for at most. */
const longestMs = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: Date.now,
  callAt(time, callback) {
    let timer: NodeJS.Timeout;
    const wait = () => {
      const left = time - Date.now();
      // A timer of Node may fire a millisecond before the clock says so.
      if (left <= 0) callback();
      else timer = setTimeout(wait, Math.min(left, longestMs));
    };
    timer = setTimeout(wait, Math.min(Math.max(time - Date.now(), 0), longestMs));
    return () => clearTimeout(timer);
  },
};

import type { Pipeline, Work } from "./matrix.ts";
import type { Facts } from "./read-facts.ts";

/** A job of the matrix on one pipeline, run once or several times. */
export interface Measurement {
  readonly work: Work;
  readonly pipeline: Pipeline;
  readonly runs: readonly Facts[];
}

/** The middle one, or the mean of the two in the middle; undefined without any. */
export function median(values: readonly number[]): number | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.ceil(sorted.length / 2) - 1];
  return upper === undefined || lower === undefined ? undefined : (lower + upper) / 2;
}

/** The median of what `read` finds in each run; runs without it don't count. */
export function medianOf({ runs }: Measurement, read: (facts: Facts) => number | null): number | undefined {
  return median(runs.map(read).filter((value) => value !== null));
}

/** From the submission to the end. */
export function seconds(measurement: Measurement): number | undefined {
  const ms = medianOf(measurement, ({ latency_ms }) => latency_ms.job.p50);
  return ms === undefined ? undefined : ms / 1000;
}

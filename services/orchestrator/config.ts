import * as v from "valibot";
import { CommonEnvironment, Integer, loadEnvironment } from "../../shared/environment.ts";

const Environment = v.object({
  ...CommonEnvironment.entries,
  /** Start, plan and reduce hints handled at once, per queue and transport. */
  CONCURRENCY: Integer(1, 100, 8),
  /** Unfinished messages per queue that the relay keeps in a broker. */
  SEND_WINDOW: Integer(1, 1_000_000, 20_000),
  SEND_WINDOW_STORAGE_QUEUE: Integer(1, 100_000, 500),
  RELAY_IDLE_MS: Integer(10, 10_000, 100),
  SWEEP_INTERVAL_MS: Integer(100, 600_000, 1_000),
  /** Beyond its time-out, before an attempt under a live lease counts as hung. */
  ATTEMPT_GRACE_MS: Integer(0, 600_000, 15_000),
});
export type Config = v.InferOutput<typeof Environment>;

export function loadConfig(environment: Record<string, string | undefined>): Config {
  return loadEnvironment(Environment, environment);
}

import * as v from "valibot";
import { CommonEnvironment, Integer, loadEnvironment, missingSetting, QueueName, Url } from "../../shared/environment.ts";

const secretIsBad = "must be whsec_ and the base64 of 24 to 64 bytes";

const Environment = v.object({
  ...CommonEnvironment.entries,
  /**
   * Where a Standard namespace forwards the dead letters of its queues to, `sb-poison` as a rule; while it does, their own dead letters
   * can't be received from. Unset: they aren't forwarded.
   */
  AZURE_SERVICE_BUS_POISON_QUEUE: v.optional(QueueName),
  /** Dead letters of one queue taken in at once. */
  CONCURRENCY: Integer(1, 1_000, 32),
  /** Beyond its time-out, before an attempt under a live lease counts as hung: as the orchestrator has it. */
  ATTEMPT_GRACE_MS: Integer(0, 600_000, 15_000),
  /** Between reconciliation runs that nobody asked for, dry ones; 0: none. */
  RECONCILE_INTERVAL_MS: Integer(0, 604_800_000, 3_600_000),
  /** Between the two readings of what may be in flux. */
  RECONCILE_PAUSE_MS: Integer(0, 60_000, 5_000),
  /** Where alerts are posted to. Unset: they are only logged. */
  ALERT_WEBHOOK_URL: v.optional(Url("https:", "http:")),
  /** Signs them: `whsec_` and the base64 of 24 to 64 bytes, as Standard Webhooks has it. */
  ALERT_WEBHOOK_SECRET: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^whsec_(?:[A-Za-z0-9+/]{4}){8,21}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})?$/, secretIsBad),
    ),
  ),
});
export type Config = v.InferOutput<typeof Environment>;

export function loadConfig(environment: Record<string, string | undefined>): Config {
  const config = loadEnvironment(Environment, environment);
  if (config.ALERT_WEBHOOK_URL !== undefined && config.ALERT_WEBHOOK_SECRET === undefined) {
    throw missingSetting("ALERT_WEBHOOK_SECRET", "ALERT_WEBHOOK_URL is set, and alerts are signed");
  }
  return config;
}

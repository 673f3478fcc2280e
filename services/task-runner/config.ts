import * as v from "valibot";
import { CommonEnvironment, Integer, List, loadEnvironment, QueueName, Url } from "../../shared/environment.ts";
import { ContractError } from "../../shared/contracts/parse.ts";
import { defaultQueues } from "../../shared/transport/queues.ts";
import type { TransportName } from "../../shared/transports.ts";

const Environment = v.object({
  ...CommonEnvironment.entries,
  /** The queues to take tasks from, separated by commas. Default: the tasks queue of the transport. */
  TASK_QUEUE: v.optional(List(QueueName)),
  /** Who scores and reports on assessments. Default: the rubric that comes with the submission. */
  ASSESSMENT_SCORER_URL: v.optional(Url("https:", "http:")),
  ASSESSMENT_REPORTER_URL: v.optional(Url("https:", "http:")),
  /** Of one request to them. */
  ASSESSMENT_TIMEOUT_MS: Integer(1, 290_000, 60_000),
  /** Tasks run at once, whatever queue and message they came by. So many messages of a queue, too, are handled at once. */
  CONCURRENCY: Integer(1, 1_000, 32),
  /** Messages locked beyond these. */
  PREFETCH: Integer(0, 1_000, 32),
  /** Receives that wait at once. */
  RECEIVERS: Integer(1, 32, 2),
});
export type Config = v.InferOutput<typeof Environment> & {
  readonly transport: TransportName;
  readonly queues: readonly string[];
};

/** A task-runner serves exactly one transport: TRANSPORTS names it. */
export function loadConfig(environment: Record<string, string | undefined>): Config {
  const config = loadEnvironment(Environment, environment);
  const [transport, ...others] = config.TRANSPORTS;
  if (!transport || others.length > 0) {
    throw new ContractError("invalid-configuration", [{
      field: "TRANSPORTS",
      message: "must name exactly one transport for a task-runner",
    }]);
  }
  return { ...config, transport, queues: config.TASK_QUEUE ?? [defaultQueues[transport].tasks] };
}

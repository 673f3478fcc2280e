import * as v from "valibot";

const Milliseconds = v.nullable(v.number());
const Latency = v.object({ p50: Milliseconds, p95: Milliseconds });
const Facts = v.object({
  emulator: v.boolean(),
  tasks: v.number(),
  failed_tasks: v.number(),
  attempts: v.number(),
  timed_out_attempts: v.number(),
  retries: v.number(),
  tasks_per_second: v.nullable(v.number()),
  latency_ms: v.object({
    submit_to_first_task: Latency,
    fan_out: Latency,
    queue_wait: Latency,
    barrier_to_next_stage: Latency,
    job: Latency,
  }),
  messages: v.number(),
  broker_operations: v.number(),
  cost: v.number(),
});
/** What `/api/metrics/comparison` says of one job. */
export type Facts = v.InferOutput<typeof Facts>;
const Comparison = v.object({ rows: v.tuple([Facts]) });

export async function readFacts(apiUrl: string, jobId: string, signal: AbortSignal): Promise<Facts> {
  const response = await fetch(`${apiUrl}/api/metrics/comparison?job_id=${jobId}`, { signal });
  if (!response.ok) throw new Error(`the comparison answered ${response.status}: ${await response.text()}`);
  return v.parse(Comparison, await response.json()).rows[0];
}

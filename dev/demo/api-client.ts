import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import type { TransportName } from "../../shared/transports.ts";

const Submitted = v.object({ job_id: v.string(), status: v.string() });
const Counts = v.object({ planned: v.number(), completed: v.number(), failed: v.number(), cancelled: v.number() });
const Stage = v.object({ stage: v.number(), status: v.string(), counts: Counts });
const StageResult = v.object({
  task_count: v.number(),
  successful_tasks: v.number(),
  failed_tasks: v.number(),
  success_rate: v.number(),
});
const Job = v.object({
  jobId: v.string(),
  jobType: v.string(),
  status: v.string(),
  processingPath: v.string(),
  stages: v.array(Stage),
  stageResults: v.record(v.string(), StageResult),
  createdAt: v.string(),
  endedAt: v.optional(v.string()),
  resultData: v.optional(v.record(v.string(), v.unknown())),
  errorDetails: v.optional(v.string()),
});
export type Job = v.InferOutput<typeof Job>;
const Task = v.object({
  stage: v.number(),
  task_index: v.number(),
  status: v.string(),
  result_data: v.nullable(v.record(v.string(), v.unknown())),
});
export type Task = v.InferOutput<typeof Task>;
const TaskPage = v.object({ tasks: v.array(Task), next_cursor: v.nullable(v.string()) });

/** What the demo asks of the api. */
export interface ApiClient {
  submit(jobType: string, parameters: Record<string, unknown>, transport: TransportName): Promise<string>;
  getJob(jobId: string): Promise<Job>;
  listTasks(jobId: string): Promise<readonly Task[]>;
  /** Resolves when the job has ended; tells each state it sees. */
  whenEnded(jobId: string, onSeen: (job: Job) => void): Promise<Job>;
}

const pollMs = 250;

export function createApiClient(apiUrl: string, signal: AbortSignal): ApiClient {
  async function request(path: string, init: RequestInit = {}): Promise<unknown> {
    const response = await fetch(`${apiUrl}${path}`, { ...init, signal: AbortSignal.any([signal, AbortSignal.timeout(30_000)]) });
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
    return await response.json();
  }
  async function getJob(jobId: string): Promise<Job> {
    return v.parse(Job, await request(`/api/jobs/status/${jobId}`));
  }
  return {
    async submit(jobType, parameters, transport) {
      const body = JSON.stringify({ ...parameters, transport });
      return v.parse(Submitted, await request(`/api/jobs/submit/${jobType}`, { method: "POST", body })).job_id;
    },
    getJob,
    async listTasks(jobId) {
      const tasks: Task[] = [];
      let cursor: string | null = "";
      while (cursor !== null) {
        const query: string = cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`;
        const page = v.parse(TaskPage, await request(`/api/db/tasks/${jobId}?limit=1000${query}`));
        tasks.push(...page.tasks);
        cursor = page.next_cursor;
      }
      return tasks;
    },
    async whenEnded(jobId, onSeen) {
      for (;;) {
        const job = await getJob(jobId);
        onSeen(job);
        if (job.endedAt !== undefined) return job;
        await sleep(pollMs, undefined, { signal });
      }
    },
  };
}

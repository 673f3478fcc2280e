import type { TransportName } from "../../shared/transports.ts";
import type { ApiClient, Job, Task } from "./api-client.ts";

export interface JobRequest {
  readonly transport: TransportName;
  readonly jobType: string;
  readonly parameters: Record<string, unknown>;
  /** What is wrong with the job; empty if nothing is. */
  readonly check: (job: Job, tasks: readonly Task[]) => readonly string[];
}

export interface Outcome {
  readonly transport: TransportName;
  readonly job: Job;
  readonly tasks: readonly Task[];
  readonly problems: readonly string[];
}

/** Submits a job, waits for its end, telling how many tasks have ended, and checks what it did. */
export async function runJob(client: ApiClient, request: JobRequest, onProgress: (ended: number) => void): Promise<Outcome> {
  const { transport, jobType, parameters, check } = request;
  const jobId = await client.submit(jobType, parameters, transport);
  const job = await client.whenEnded(jobId, ({ stages }) => {
    onProgress(stages.reduce((sum, { counts }) => sum + counts.completed + counts.failed + counts.cancelled, 0));
  });
  const tasks = await client.listTasks(jobId);
  const problems = job.processingPath === transport ? [] : [`it ran on ${job.processingPath}`];
  return { transport, job, tasks, problems: [...problems, ...check(job, tasks)] };
}

/** From the submission to the end, by the clock of the database. */
export function secondsOf({ createdAt, endedAt }: Job): number {
  return (Date.parse(endedAt ?? "") - Date.parse(createdAt)) / 1000;
}

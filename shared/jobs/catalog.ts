import { PermanentError } from "../errors.ts";
import type { JobDefinition } from "./define-job.ts";
import type { TaskDefinition } from "./define-task.ts";

/** Job types by name. Built in each main.ts from an explicit list. */
export type JobCatalog = ReadonlyMap<string, JobDefinition>;
export type TaskCatalog = ReadonlyMap<string, TaskDefinition>;

export function createJobCatalog(jobs: readonly JobDefinition[]): JobCatalog {
  const catalog = new Map(jobs.map((job) => [job.type, job]));
  if (catalog.size !== jobs.length) throw new PermanentError("invalid-configuration", "two job types have the same name");
  return catalog;
}

/** The task types that the stages of these jobs use. */
export function createTaskCatalog(jobs: readonly JobDefinition[]): TaskCatalog {
  const catalog = new Map<string, TaskDefinition>();
  for (const { task } of jobs.flatMap((job) => job.stages)) {
    if ((catalog.get(task.type) ?? task) !== task) {
      throw new PermanentError("invalid-configuration", `two task types are called ${task.type}`);
    }
    catalog.set(task.type, task);
  }
  return catalog;
}

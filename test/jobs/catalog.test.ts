import { expect, test } from "vitest";
import { createContainers } from "../../services/task-runner/containers.ts";
import { createTaskHandlers } from "../../services/task-runner/tasks/catalog.ts";
import { createJudges } from "../../services/task-runner/assessment/judges.ts";
import { allJobs, assessment } from "../support/all-jobs.ts";
import { createJobCatalog, createTaskCatalog } from "../../shared/jobs/catalog.ts";

test("each task type of the jobs has its handler, made for the same definition, and no handler is left over", () => {
  const handlers = createTaskHandlers({
    containers: createContainers({ connectionString: "UseDevelopmentStorage=true" }),
    assessment,
    judges: createJudges({ ASSESSMENT_TIMEOUT_MS: 1_000 }),
  });
  const tasks = createTaskCatalog(allJobs);
  expect([...handlers.keys()].sort()).toEqual([...tasks.keys()].sort());
  for (const [type, task] of tasks) expect(handlers.get(type)?.task).toBe(task);
});

test("the job types", () => {
  expect([...createJobCatalog(allJobs).keys()]).toEqual(["hello_world", "summarize_container", "list_container", "assessment"]);
});

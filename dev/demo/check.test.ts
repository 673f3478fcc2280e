import { expect, test } from "vitest";
import type { Job, Task } from "./api-client.ts";
import { checkHelloWorld, checkListContainer } from "./check.ts";

function createJob(planned: readonly number[], resultData: Record<string, unknown> = {}): Job {
  return {
    jobId: "j",
    jobType: "t",
    status: "completed",
    processingPath: "bullmq",
    createdAt: "",
    resultData,
    stages: planned.map((count, index) => ({
      stage: index + 1,
      status: "completed",
      counts: { planned: count, completed: count, failed: 0, cancelled: 0 },
    })),
    stageResults: Object.fromEntries(
      planned.map((count, index) => [
        String(index + 1),
        { task_count: count, successful_tasks: count, failed_tasks: 0, success_rate: 100 },
      ]),
    ),
  };
}

function createTask(stage: number, task_index: number, result_data: Record<string, unknown>): Task {
  return { stage, task_index, status: "completed", result_data };
}

const greetings = [1, 2].map((number) => `Hello, World! (task ${number})`);
const greeted = [
  ...greetings.map((greeting, index) => createTask(1, index, { greeting })),
  ...greetings.map((greeting, index) =>
    createTask(2, index, { original_greeting: greeting, reply: `Thank you for “${greeting}”` })
  ),
];

function changed(tasks: readonly Task[], index: number, change: Record<string, unknown>): readonly Task[] {
  return tasks.map((task, at) => at === index ? { ...task, result_data: { ...task.result_data, ...change } } : task);
}

test("a right hello_world is right, and each thing that is off is noticed", () => {
  const check = (job: Job, tasks: readonly Task[]) => checkHelloWorld(job, tasks, { n: 2, name: "World" });
  const job = createJob([2, 2]);
  expect(check(job, greeted)).toEqual([]);
  for (
    const [wrongJob, wrongTasks] of [
      [{ ...job, status: "completed_with_errors" }, greeted],
      [createJob([2, 1]), greeted],
      [createJob([2]), greeted],
      [job, greeted.slice(1)],
      [job, [...greeted, createTask(2, 1, greeted[3]?.result_data ?? {})]],
      [job, greeted.map((task) => ({ ...task, status: "failed" }))],
      [job, changed(greeted, 1, { greeting: greetings[0] })],
      [job, changed(greeted, 2, { original_greeting: greetings[1] })],
      [job, changed(greeted, 3, { reply: "Thank you" })],
    ] as const
  ) expect(check(wrongJob, wrongTasks)).not.toEqual([]);
});

test("a right list_container is right, and each thing that is off is noticed", () => {
  const files = [
    { name: "a/b/Ü.TIF", path: "", bytes: 5, contentType: "image/tiff" },
    { name: "c", path: "", bytes: 0, contentType: "application/octet-stream" },
  ];
  const common = { etag: "x", metadata: null, extraction_level: "standard" };
  const tasks = [
    createTask(1, 0, {}),
    createTask(2, 0, {
      ...common,
      name: "a/b/Ü.TIF",
      size: 5,
      content_type: "image/tiff",
      extension: ".tif",
      folder_path: "a/b",
    }),
    createTask(2, 1, { ...common, name: "c", size: 0, content_type: "application/octet-stream", extension: "", folder_path: "" }),
  ];
  const result = { total: 2, extracted: 2, failed: 0, total_size_bytes: 5, hit_file_limit: false };
  const job = createJob([1, 2], result);
  expect(checkListContainer(job, tasks, files)).toEqual([]);
  for (
    const [wrongJob, wrongTasks, onDisk] of [
      [createJob([1, 2], { ...result, total_size_bytes: 6 }), tasks, files],
      [createJob([1, 2], { ...result, hit_file_limit: true }), tasks, files],
      [job, changed(tasks, 1, { name: "a/b/U.TIF" }), files],
      [job, changed(tasks, 1, { size: 4 }), files],
      [job, changed(tasks, 1, { content_type: "text/plain" }), files],
      [job, changed(tasks, 2, { folder_path: "a" }), files],
      [job, changed(tasks, 2, { etag: null }), files],
      [job, tasks, files.slice(1)],
    ] as const
  ) expect(checkListContainer(wrongJob, wrongTasks, onDisk)).not.toEqual([]);
});

import { extname, posix } from "node:path";
import type { Job, Task } from "./api-client.ts";
import type { DemoFile } from "./files.ts";

const maxListed = 10;

/** What is wrong with a job that should have greeted `n` times; empty if nothing is. */
export function checkHelloWorld(job: Job, tasks: readonly Task[], { n, name }: { n: number; name: string }): readonly string[] {
  const problems = [...checkStages(job, [n, n]), ...checkIndexes(tasks, [n, n])];
  const greetings = new Map(ofStage(tasks, 1).map((task) => [task.task_index, task.result_data?.["greeting"]]));
  for (let index = 0; index < n; index++) {
    const expected = `Hello, ${name}! (task ${index + 1})`;
    if (greetings.get(index) !== expected) problems.push(`greeting ${index} is ${greetings.get(index)}, not ${expected}`);
  }
  for (const { task_index, result_data } of ofStage(tasks, 2)) {
    const greeting = String(greetings.get(task_index));
    if (result_data?.["original_greeting"] !== greeting || !String(result_data["reply"]).includes(greeting)) {
      problems.push(`reply ${task_index} does not quote its greeting: ${JSON.stringify(result_data)}`);
    }
  }
  return shorten(problems);
}

/** What is wrong with a job that should have listed exactly these files; empty if nothing is. */
export function checkListContainer(job: Job, tasks: readonly Task[], files: readonly DemoFile[]): readonly string[] {
  const problems = [...checkStages(job, [1, files.length]), ...checkIndexes(tasks, [1, files.length])];
  const listed = new Map(ofStage(tasks, 2).map(({ result_data }) => [result_data?.["name"], result_data]));
  for (const { name, bytes, contentType } of files) {
    const found = listed.get(name);
    if (!found) {
      problems.push(`${name} is on the disk but was not listed`);
      continue;
    }
    listed.delete(name);
    const expected = {
      size: bytes,
      content_type: contentType,
      extension: extname(name).toLowerCase(),
      folder_path: posix.dirname(name) === "." ? "" : posix.dirname(name),
      extraction_level: "standard",
      metadata: null,
    };
    for (const [field, value] of Object.entries(expected)) {
      if (found[field] !== value) problems.push(`${field} of ${name} is ${found[field]}, not ${value}`);
    }
    if (!found["etag"]) problems.push(`${name} has no etag`);
  }
  for (const name of listed.keys()) problems.push(`${name} was listed but is not on the disk`);
  const expected = {
    total: files.length,
    extracted: files.length,
    failed: 0,
    total_size_bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    hit_file_limit: false,
  };
  for (const [field, value] of Object.entries(expected)) {
    if (job.resultData?.[field] !== value) problems.push(`${field} of the result is ${job.resultData?.[field]}, not ${value}`);
  }
  return shorten(problems);
}

/** The job and its stages, as they say of themselves. */
function checkStages(job: Job, planned: readonly number[]): string[] {
  const problems: string[] = [];
  if (job.status !== "completed") problems.push(`the job is ${job.status}${job.errorDetails ? `: ${job.errorDetails}` : ""}`);
  if (job.stages.length !== planned.length) problems.push(`the job has ${job.stages.length} stages, not ${planned.length}`);
  planned.forEach((count, index) => {
    const result = job.stageResults[String(index + 1)];
    const counts = job.stages[index]?.counts;
    if (counts?.planned !== count || counts.completed !== count) {
      problems.push(`stage ${index + 1} completed ${counts?.completed} of ${counts?.planned} tasks, not ${count}`);
    }
    if (result?.task_count !== count || result.successful_tasks !== count || result.success_rate !== 100) {
      problems.push(`the result of stage ${index + 1} is ${JSON.stringify(result)}`);
    }
  });
  return problems;
}

/** Each task once, completed. */
function checkIndexes(tasks: readonly Task[], planned: readonly number[]): string[] {
  const problems: string[] = [];
  planned.forEach((count, index) => {
    const found = ofStage(tasks, index + 1);
    const indexes = new Set(found.map(({ task_index }) => task_index));
    const outside = [...indexes].filter((each) => each < 0 || each >= count);
    const open = found.filter(({ status }) => status !== "completed");
    if (found.length !== count || indexes.size !== count || outside.length > 0 || open.length > 0) {
      problems.push(`stage ${index + 1} has ${found.length} tasks, ${open.length} of them not completed; ${count} were expected`);
    }
  });
  return problems;
}

function ofStage(tasks: readonly Task[], stage: number): readonly Task[] {
  return tasks.filter((task) => task.stage === stage);
}

function shorten(problems: readonly string[]): readonly string[] {
  const left = problems.length - maxListed;
  return left > 0 ? [...problems.slice(0, maxListed), `and ${left} more`] : problems;
}

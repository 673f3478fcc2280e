import { expect, onTestFinished } from "vitest";
import { createJudges } from "../../services/task-runner/assessment/judges.ts";
import { createContainers } from "../../services/task-runner/containers.ts";
import { createTaskHandlers } from "../../services/task-runner/tasks/catalog.ts";
import { createBlobClient } from "../../shared/blob-storage/account.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import { allJobs, assessment } from "../support/all-jobs.ts";
import { startAzurite } from "../support/azurite.ts";
import { test } from "../support/database.ts";
import { startPipeline, whenEnded } from "../support/pipeline.ts";

test("jobs about containers: what is there, what is empty, and what is missing, by name", async ({ sql, database }) => {
  const azurite = await startAzurite();
  onTestFinished(() => azurite.stop());
  const account = { connectionString: azurite.connectionString };
  const client = createBlobClient(account);
  for (const name of ["files", "empty"]) await client.getContainerClient(name).create();
  for (const [name, size] of [["a/one.tif", 10], ["a/two.tif", 20], ["b.csv", 5]] as const) {
    await client.getContainerClient("files").getBlockBlobClient(name).upload("x".repeat(size), size);
  }
  const transport = openBullmqTransport({ databaseUrl: database.url });
  const pipeline = await startPipeline({
    sql,
    transport,
    jobs: allJobs,
    handlers: [
      ...createTaskHandlers({
        containers: createContainers(account),
        assessment,
        judges: createJudges({ ASSESSMENT_TIMEOUT_MS: 1_000 }),
      }).values(),
    ],
  });
  const run = async (jobType: string, parameters: Record<string, unknown>) =>
    await whenEnded(sql, await pipeline.submit(jobType, parameters));

  expect(await run("list_container", { container: "files", create_index: true })).toMatchObject({
    status: "completed",
    result: { total: 3, total_size_bytes: 35, extracted: 3, failed: 0, index: { file_count: 3, folder_count: 2 } },
  });
  expect(await run("summarize_container", { container: "files", prefix: "a/" })).toMatchObject({
    status: "completed",
    result: { container_summary: { file_count: 2, total_size_bytes: 30, type_distribution: { ".tif": 2 } } },
  });
  expect(await run("list_container", { container: "empty" })).toMatchObject({ status: "completed", result: { total: 0 } });
  for (const jobType of ["list_container", "summarize_container"]) {
    expect(await run(jobType, { container: "nowhere" })).toMatchObject({
      status: "failed",
      error: {
        code: "stage-failed",
        message: expect.stringMatching(/^1 of 1 tasks .* failed; the first one: no container nowhere$/),
      },
    });
  }
  expect(await findViolations(sql)).toEqual([]);
  await pipeline.stop();
  await transport.close();
});

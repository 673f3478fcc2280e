import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { TransportName } from "../shared/transports.ts";
import { createApiClient, type Job, type Task } from "./demo/api-client.ts";
import { checkHelloWorld, checkListContainer } from "./demo/check.ts";
import { readDemoFiles, uploadFiles, writeDemoFiles } from "./demo/files.ts";
import { createProgress } from "./demo/progress.ts";
import { takeRedisDatabase } from "./demo/redis-database.ts";
import { formatTable } from "../shared/table.ts";
import { describeLogTails } from "./stack/describe-log-tails.ts";
import { stackTransports } from "./stack/programs.ts";
import { createDemoSettings } from "./stack/settings.ts";
import { createStack } from "./stack/stack.ts";
import { stackStopSignal } from "./stack/stop-signal.ts";

const n = 1_000;
const name = "World";
const fileCount = 2_000;
const seed = 20_260_101;
const container = "demo-files";

interface Outcome {
  readonly transport: TransportName;
  readonly job: Job;
  readonly tasks: readonly Task[];
  readonly problems: readonly string[];
}

if (existsSync(".env")) process.loadEnvFile(".env");
const signal = stackStopSignal();
const beganAt = performance.now();
const { redisUrl, ...settings } = await createDemoSettings(process.env);
const redis = redisUrl ? await takeRedisDatabase(redisUrl) : undefined;
const progress = createProgress();
const stack = createStack({ ...settings, redisUrl: redis?.url }, progress.say);
try {
  progress.say(`Starting the stack on free ports, BullMQ on ${redis ? "Redis" : "PostgreSQL"} …`);
  const directory = join(settings.stateDirectory, "files");
  await Promise.all([stack.start(signal), writeDemoFiles(directory, { count: fileCount, seed })]);
  const outcomes = await runJobs(directory);
  progress.stop();
  report(outcomes);
} catch (error) {
  progress.stop();
  if (signal.aborted) process.exitCode = 130;
  else {
    console.error(`\n${describeLogTails(stack.logTails(15))}`);
    console.error("\nThe demo failed:", error);
    process.exitCode = 1;
  }
} finally {
  await stack.stop();
  await redis?.release();
  await rm(settings.stateDirectory, { recursive: true, force: true, maxRetries: 5 });
}

async function runJobs(directory: string): Promise<readonly Outcome[]> {
  const files = await readDemoFiles(directory);
  const { apiUrl, storageConnectionString } = stack.addresses;
  await uploadFiles(storageConnectionString, {
    container,
    files,
    signal,
    onUploaded: progress.add("files uploaded", files.length),
  });
  const client = createApiClient(apiUrl, signal);

  async function run(
    transport: TransportName,
    jobType: string,
    { parameters, total, check }: {
      parameters: Record<string, unknown>;
      total: number;
      check: (job: Job, tasks: readonly Task[]) => readonly string[];
    },
  ): Promise<Outcome> {
    const update = progress.add(`${jobType} on ${transport}`, total);
    const jobId = await client.submit(jobType, parameters, transport);
    const job = await client.whenEnded(jobId, ({ stages }) => {
      update(stages.reduce((sum, { counts }) => sum + counts.completed + counts.failed + counts.cancelled, 0));
    });
    const tasks = await client.listTasks(jobId);
    const problems = job.processingPath === transport ? [] : [`it ran on ${job.processingPath}`];
    return { transport, job, tasks, problems: [...problems, ...check(job, tasks)] };
  }

  return await Promise.all(stackTransports.flatMap((transport) => [
    run(transport, "hello_world", {
      parameters: { n, name },
      total: 2 * n,
      check: (job, tasks) => checkHelloWorld(job, tasks, { n, name }),
    }),
    run(transport, "list_container", {
      parameters: { container, max_files: 10_000, metadata_level: "standard" },
      total: files.length + 1,
      check: (job, tasks) => checkListContainer(job, tasks, files),
    }),
  ]));
}

function report(outcomes: readonly Outcome[]): void {
  const rows = outcomes.map(({ transport, job, tasks }) => {
    const seconds = (Date.parse(job.endedAt ?? "") - Date.parse(job.createdAt)) / 1000;
    const failed = tasks.filter(({ status }) => status === "failed").length;
    return [transport, job.jobType, tasks.length, seconds.toFixed(1), (tasks.length / seconds).toFixed(0), failed];
  });
  console.log(`\n${formatTable(["transport", "job", "tasks", "seconds", "tasks/s", "failed"], rows)}\n`);
  const problems = outcomes.flatMap(({ transport, job, problems }) =>
    problems.map((problem) => `${job.jobType} on ${transport}: ${problem}`)
  );
  const took = ((performance.now() - beganAt) / 1000).toFixed(0);
  if (problems.length === 0) {
    console.log(
      `All results are right: ${fileCount} files as on the disk, ${n} replies that quote their greeting, on each transport.`,
    );
    console.log(`The demo took ${took} s.`);
    return;
  }
  console.error(`${problems.join("\n")}\n\n${describeLogTails(stack.logTails(15))}\n\nThe demo failed after ${took} s.`);
  process.exitCode = 1;
}

import { existsSync } from "node:fs";
import { join } from "node:path";
import { createApiClient, type Job, type Task } from "./demo/api-client.ts";
import { checkHelloWorld, checkListContainer } from "./demo/check.ts";
import { readDemoFiles, uploadFiles, writeDemoFiles } from "./demo/files.ts";
import { createProgress } from "./demo/progress.ts";
import { takeRedisDatabase } from "./demo/redis-database.ts";
import { type Outcome, runJob, secondsOf } from "./demo/run-job.ts";
import { withStack } from "./demo/with-stack.ts";
import { formatTable } from "../shared/table.ts";
import { createDemoSettings } from "./stack/settings.ts";
import type { Stack } from "./stack/stack.ts";
import { stackStopSignal } from "./stack/stop-signal.ts";

const n = 1_000;
const name = "World";
const fileCount = 2_000;
const seed = 20_260_101;
const container = "demo-files";

if (existsSync(".env")) process.loadEnvFile(".env");
const signal = stackStopSignal();
const { redisUrl, ...settings } = await createDemoSettings(process.env);
const redis = redisUrl ? await takeRedisDatabase(redisUrl) : undefined;
const progress = createProgress();
try {
  await withStack({ name: "demo", settings: { ...settings, redisUrl: redis?.url }, progress, signal }, async (stack) => {
    progress.say(`Starting the stack on free ports, BullMQ on ${redis ? "Redis" : "PostgreSQL"} …`);
    const directory = join(settings.stateDirectory, "files");
    await Promise.all([stack.start(signal), writeDemoFiles(directory, { count: fileCount, seed })]);
    const outcomes = await runJobs(stack, directory);
    progress.stop();
    return report(outcomes);
  });
} finally {
  await redis?.release();
}

async function runJobs({ addresses }: Stack, directory: string): Promise<readonly Outcome[]> {
  const files = await readDemoFiles(directory);
  await uploadFiles(addresses.storageConnectionString, {
    container,
    files,
    signal,
    onUploaded: progress.add("files uploaded", files.length),
  });
  const client = createApiClient(addresses.apiUrl, signal);
  const work = [
    {
      jobType: "hello_world",
      parameters: { n, name },
      total: 2 * n,
      check: (job: Job, tasks: readonly Task[]) => checkHelloWorld(job, tasks, { n, name }),
    },
    {
      jobType: "list_container",
      parameters: { container, max_files: 10_000, metadata_level: "standard" },
      total: files.length + 1,
      check: (job: Job, tasks: readonly Task[]) => checkListContainer(job, tasks, files),
    },
  ];
  return await Promise.all(
    settings.transports.flatMap((transport) =>
      work.map(({ total, ...request }) =>
        runJob(client, { transport, ...request }, progress.add(`${request.jobType} on ${transport}`, total))
      )
    ),
  );
}

function report(outcomes: readonly Outcome[]): readonly string[] {
  const rows = outcomes.map(({ transport, job, tasks }) => {
    const seconds = secondsOf(job);
    const failed = tasks.filter(({ status }) => status === "failed").length;
    return [transport, job.jobType, tasks.length, seconds.toFixed(1), (tasks.length / seconds).toFixed(0), failed];
  });
  console.log(`\n${formatTable(["transport", "job", "tasks", "seconds", "tasks/s", "failed"], rows)}\n`);
  const problems = outcomes.flatMap(({ transport, job, problems }) =>
    problems.map((problem) => `${job.jobType} on ${transport}: ${problem}`)
  );
  if (problems.length === 0) {
    console.log(
      `All results are right: ${fileCount} files as on the disk, ${n} replies that quote their greeting, on each transport.`,
    );
  }
  return problems;
}

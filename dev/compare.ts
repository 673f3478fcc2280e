import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { CommonEnvironment, loadEnvironment, serviceBusConnectionString } from "../shared/environment.ts";
import { countTasks, createMatrix, nameWork, type Pipeline, pipelines, type Work } from "./compare/matrix.ts";
import type { Measurement } from "./compare/measurement.ts";
import { type CompareOptions, describeCommand, parseOptions, usage } from "./compare/options.ts";
import { type Facts, readFacts } from "./compare/read-facts.ts";
import { formatMeasurements, renderResults } from "./compare/report.ts";
import { currentLoad, describeSurroundings } from "./compare/surroundings.ts";
import { createApiClient } from "./demo/api-client.ts";
import { checkHelloWorld, checkListContainer } from "./demo/check.ts";
import { deleteContainer, type DemoFile, readDemoFiles, uploadFiles, writeDemoFiles } from "./demo/files.ts";
import { createProgress } from "./demo/progress.ts";
import { runJob } from "./demo/run-job.ts";
import { withStack } from "./demo/with-stack.ts";
import { type AzureConnections, createDemoSettings } from "./stack/settings.ts";
import type { Stack } from "./stack/stack.ts";
import { stackStopSignal } from "./stack/stop-signal.ts";

const name = "World";
/** Of no size of the matrix, so that none of its jobs is this one. */
const warmUp: Work = { jobType: "hello_world", size: 99, tasksPerMessage: 1 };
const seed = 20_260_101;
/** Beyond any job of the matrix, on any broker. */
const jobLimitMs = 1_800_000;

if (existsSync(".env")) process.loadEnvFile(".env");
const options = readOptions();
const azure = options.azure ? readAzure() : undefined;
const signal = stackStopSignal();
const progress = createProgress();
const settings = {
  ...await createDemoSettings(process.env),
  redisUrl: undefined,
  transports: pipelines,
  azure,
};

await withStack({ name: "comparison", settings, progress, signal }, async (stack) => {
  progress.say(`Starting both pipelines, on ${azure ? "the brokers of the environment" : "emulators"} …`);
  const loadBefore = currentLoad();
  const matrix = createMatrix(options);
  await stack.start(signal);
  const containers = new Map<number, Container>();
  try {
    await fillContainers(stack, matrix, containers);
    const measureAll = (works: readonly Work[], runs: number) => measureWorks(stack, containers, { works, runs });
    const cold = await measureAll([warmUp], 1);
    const { measurements, problems: later } = await measureAll(matrix, options.runs);
    const problems = [...cold.problems, ...later];
    progress.stop();
    console.log(`\n${formatMeasurements(measurements)}\n`);
    const load = [loadBefore, currentLoad()] as const;
    if (options.output !== undefined && problems.length === 0) {
      const surroundings = { ...await describeSurroundings(), load, command: describeCommand(options), runs: options.runs };
      await write(options.output, renderResults(measurements, surroundings));
      console.log(`Every outcome is right. The results are in ${options.output}.`);
    } else if (problems.length === 0) console.log("Every outcome is right.");
    return problems;
  } finally {
    const { storageConnectionString } = stack.addresses;
    await Promise.all([...containers.values()].map((container) => deleteContainer(storageConnectionString, container.name)));
  }
});

interface Container {
  readonly name: string;
  readonly files: readonly DemoFile[];
}

/** A container for each number of files that the matrix asks for. */
async function fillContainers(stack: Stack, matrix: readonly Work[], containers: Map<number, Container>): Promise<void> {
  const sizes = new Set(matrix.filter(({ jobType }) => jobType === "list_container").map(({ size }) => size));
  for (const size of sizes) {
    const directory = join(settings.stateDirectory, `files-${size}`);
    await writeDemoFiles(directory, { count: size, seed });
    const container = { name: `sluice-compare-${crypto.randomUUID()}`, files: await readDemoFiles(directory) };
    containers.set(size, container);
    await uploadFiles(stack.addresses.storageConnectionString, {
      container: container.name,
      files: container.files,
      signal,
      onUploaded: progress.add("files uploaded", size),
    });
  }
}

async function measureWorks(
  stack: Stack,
  containers: ReadonlyMap<number, Container>,
  { works, runs: count }: { readonly works: readonly Work[]; readonly runs: number },
): Promise<{ readonly measurements: readonly Measurement[]; readonly problems: readonly string[] }> {
  const measurements: Measurement[] = [];
  const problems: string[] = [];
  for (const work of works) {
    const runs = new Map<Pipeline, Facts[]>(pipelines.map((pipeline) => [pipeline, []]));
    for (let repeat = 1; repeat <= count; repeat++) {
      for (const [pipeline, facts] of runs) {
        const run = await measure(stack, containers, { work, pipeline, repeat });
        facts.push(run.facts);
        problems.push(...run.problems.map((problem) => `${nameWork(work)} on ${pipeline}: ${problem}`));
      }
    }
    measurements.push(...[...runs].map(([pipeline, facts]) => ({ work, pipeline, runs: facts })));
  }
  return { measurements, problems };
}

async function measure(
  { addresses }: Stack,
  containers: ReadonlyMap<number, Container>,
  { work, pipeline, repeat }: { readonly work: Work; readonly pipeline: Pipeline; readonly repeat: number },
): Promise<{ readonly facts: Facts; readonly problems: readonly string[] }> {
  const { jobType, size, tasksPerMessage } = work;
  const limited = AbortSignal.any([signal, AbortSignal.timeout(jobLimitMs)]);
  const { name: container, files } = containers.get(size) ?? { name: "", files: [] };
  const own = jobType === "hello_world" ? { n: size, name } : { container, max_files: size };
  const label = `${nameWork(work)}, ${tasksPerMessage} per message, on ${pipeline}`;
  const { job, problems } = await runJob(createApiClient(addresses.apiUrl, limited), {
    transport: pipeline,
    jobType,
    parameters: { ...own, tasks_per_message: tasksPerMessage, repeat },
    check: (job, tasks) =>
      jobType === "hello_world" ? checkHelloWorld(job, tasks, { n: size, name }) : checkListContainer(job, tasks, files),
  }, progress.add(label, countTasks(work)));
  return { facts: await readFacts(addresses.apiUrl, job.jobId, limited), problems };
}

function readOptions(): CompareOptions {
  try {
    const options = parseOptions(process.argv.slice(2));
    if (options !== "help") return options;
    console.log(usage);
    process.exit();
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n\n${usage}`);
    process.exit(2);
  }
}

/** Its queues must be nobody else's: another runner would take their messages, and find no rows for them. */
function readAzure(): AzureConnections {
  const environment = loadEnvironment(CommonEnvironment, { ...process.env, DATABASE_URL: "postgres://the.stack/has-its-own" });
  const serviceBus = serviceBusConnectionString(environment);
  const storage = environment.AZURE_STORAGE_CONNECTION_STRING;
  if (serviceBus === undefined || storage === undefined) {
    console.error("--azure needs AZURE_SERVICE_BUS_CONNECTION_STRING and AZURE_STORAGE_CONNECTION_STRING");
    process.exit(2);
  }
  return { serviceBus, serviceBusAdmin: environment.SERVICE_BUS_ADMIN_CONNECTION_STRING, storage };
}

/** As `npm run format` would leave it. */
async function write(path: string, text: string): Promise<void> {
  await writeFile(path, text);
  await promisify(execFile)("node_modules/.bin/deno", ["fmt", "--quiet", path]);
}

import { writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { developmentKeyName, developmentKeys } from "../service-bus-broker/shared-access-key.ts";
import { postgresReadyLine } from "../postgres/server.ts";
import { CommonEnvironment, loadEnvironment, readJobSettings } from "../../shared/environment.ts";
import { heapFlags } from "../../shared/heap.ts";
import { defaultQueues } from "../../shared/transport/queues.ts";
import type { TransportName } from "../../shared/transports.ts";
import { dataDirectoryOf } from "./data-directory.ts";
import type { StackSettings } from "./settings.ts";
import type { Program } from "./supervise.ts";

/** Where the processes of the stack find each other. */
export interface Addresses {
  readonly apiUrl: string;
  readonly databaseUrl: string;
  readonly bullmqDatabaseUrl: string;
  readonly storageConnectionString: string;
  readonly serviceBusConnectionString: string;
  readonly serviceBusAdminConnectionString: string | undefined;
}

// Azurite's well-known development account.
const accountName = "devstoreaccount1";
const accountKey = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

export function createAddresses({ ports, azure }: StackSettings): Addresses {
  const storageUrl = (service: "blob" | "queue") => `http://127.0.0.1:${ports[service]}/${accountName}`;
  return {
    apiUrl: `http://127.0.0.1:${ports.api}`,
    databaseUrl: databaseUrl(ports.postgres, "sluice"),
    bullmqDatabaseUrl: databaseUrl(ports.postgres, "bullmq"),
    storageConnectionString: azure?.storage ??
      `DefaultEndpointsProtocol=http;AccountName=${accountName};AccountKey=${accountKey};` +
        `BlobEndpoint=${storageUrl("blob")};QueueEndpoint=${storageUrl("queue")};`,
    serviceBusConnectionString: azure?.serviceBus ?? serviceBusConnectionString(ports.serviceBus),
    serviceBusAdminConnectionString: azure ? azure.serviceBusAdmin : serviceBusConnectionString(ports.serviceBusAdmin),
  };
}

/** With the development broker's key, which is no secret. */
function serviceBusConnectionString(port: number): string {
  const key = developmentKeys[developmentKeyName]?.key;
  return `Endpoint=sb://localhost:${port};SharedAccessKeyName=${developmentKeyName};SharedAccessKey=${key};UseDevelopmentEmulator=true;`;
}

export function databaseUrl(port: number, database: string): string {
  return `postgres://postgres@127.0.0.1:${port}/${database}`;
}

export async function createPostgresProgram({ ports, stateDirectory, throwAway }: StackSettings): Promise<Program> {
  return {
    name: "postgres",
    script: fileURLToPath(new URL("../postgres/keeper.ts", import.meta.url)),
    args: [
      `--directory=${await dataDirectoryOf(stateDirectory)}`,
      `--port=${ports.postgres}`,
      ...(throwAway ? [`--throw-away=${stateDirectory}`] : []),
    ],
    speaks: false,
    unleashed: true,
    readiness: { line: postgresReadyLine },
  };
}

/** Telemetry is off, and requests of any API version are accepted. */
export function createAzuritePrograms({ ports, stateDirectory, throwAway }: StackSettings): readonly Program[] {
  const { resolve } = createRequire(import.meta.url);
  return (["blob", "queue"] as const).map((service) => ({
    name: `azurite-${service}`,
    script: resolve(`azurite/dist/src/${service}/main.js`),
    args: [
      `--${service}Host=127.0.0.1`,
      `--${service}Port=${ports[service]}`,
      ...(throwAway ? ["--inMemoryPersistence"] : [`--location=${join(stateDirectory, "azurite", service)}`]),
      "--silent",
      "--loose",
      "--skipApiVersionCheck",
      "--disableTelemetry",
    ],
    speaks: false,
    // Any answer will do: without a signature it is a refusal.
    readiness: { probe: async () => (await ask(`http://127.0.0.1:${ports[service]}/${accountName}?comp=list`)).status > 0 },
  }));
}

/** Its queues are in memory, and made anew when it is started again. What they held, the sweep sends again. */
export async function createServiceBusProgram(
  { ports, stateDirectory }: StackSettings,
  queues: readonly string[],
): Promise<Program> {
  const file = join(stateDirectory, "service-bus-queues.json");
  const settings = { lockDurationMs: 10_000, deadLetteringOnMessageExpiration: true };
  await writeFile(file, JSON.stringify(Object.fromEntries(queues.map((name) => [name, settings]))));
  return {
    name: "service-bus",
    script: fileURLToPath(new URL("../service-bus-broker/main.ts", import.meta.url)),
    args: [`--port=${ports.serviceBus}`, `--admin-port=${ports.serviceBusAdmin}`, `--queues=${file}`],
    speaks: false,
    readiness: { line: "The Service Bus broker runs" },
  };
}

/** What every role of the stack reads. */
export function createRoleEnvironment(
  { redisUrl, environment, transports }: StackSettings,
  addresses: Addresses,
): Record<string, string> {
  const { serviceBusAdminConnectionString } = addresses;
  return {
    DATABASE_URL: addresses.databaseUrl,
    AZURE_STORAGE_CONNECTION_STRING: addresses.storageConnectionString,
    AZURE_SERVICE_BUS_CONNECTION_STRING: addresses.serviceBusConnectionString,
    ...(serviceBusAdminConnectionString && { SERVICE_BUS_ADMIN_CONNECTION_STRING: serviceBusAdminConnectionString }),
    ...(redisUrl ? { REDIS_URL: redisUrl } : { BULLMQ_DATABASE_URL: addresses.bullmqDatabaseUrl }),
    TRANSPORTS: transports.join(","),
    HOST: "127.0.0.1",
    GRACE_MS: "5000",
    ...environment,
  };
}

const runnerPorts = {
  bullmq: "bullmqRunner",
  storage_queue: "storageQueueRunner",
  service_bus: "serviceBusRunner",
} as const satisfies Record<TransportName, keyof StackSettings["ports"]>;

/** The api, an orchestrator, a task-runner for each transport, and a poison-handler. */
export function createRolePrograms(
  { ports, transports }: StackSettings,
  environment: Readonly<Record<string, string>>,
): readonly Program[] {
  const createRole = (name: string, role: string, port: number, own: Record<string, string> = {}): Program => ({
    name,
    script: fileURLToPath(new URL(`../../services/${role}/main.ts`, import.meta.url)),
    flags: heapFlags,
    environment: { ...environment, PORT: String(port), ...own },
    speaks: true,
    readiness: { probe: async () => (await ask(`http://127.0.0.1:${port}/readyz`)).ok },
  });
  return [
    createRole("api", "api", ports.api),
    createRole("orchestrator", "orchestrator", ports.orchestrator),
    ...transports.map((transport) =>
      createRole(
        `task-runner-${transport.replace("_", "-")}`,
        "task-runner",
        ports[runnerPorts[transport]],
        createRunnerEnvironment(transport, environment),
      )
    ),
    createRole("poison-handler", "poison-handler", ports.poisonHandler),
  ];
}

/** One runner takes the tasks of every queue of its transport. */
function createRunnerEnvironment(
  transport: TransportName,
  environment: Readonly<Record<string, string>>,
): Record<string, string> {
  const { scoringQueue, reportQueue } = readJobSettings(loadEnvironment(CommonEnvironment, environment)).assessment;
  return { TRANSPORTS: transport, TASK_QUEUE: [defaultQueues[transport].tasks, scoringQueue, reportQueue].join(",") };
}

async function ask(url: string): Promise<Response> {
  return await fetch(url, { signal: AbortSignal.timeout(5_000) });
}

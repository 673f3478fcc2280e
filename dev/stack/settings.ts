import getPort from "get-port";
import { resolve } from "node:path";
import * as v from "valibot";
import { Integer, loadEnvironment, Text } from "../../shared/environment.ts";
import type { TransportName } from "../../shared/transports.ts";
import { createTemporaryState } from "./data-directory.ts";

export const portNames = [
  "api",
  "orchestrator",
  "bullmqRunner",
  "storageQueueRunner",
  "serviceBusRunner",
  "poisonHandler",
  "postgres",
  "blob",
  "queue",
  "serviceBus",
  "serviceBusAdmin",
] as const;
export type Ports = Readonly<Record<(typeof portNames)[number], number>>;

/** Each with a task-runner. */
export const stackTransports = ["bullmq", "storage_queue", "service_bus"] as const satisfies readonly TransportName[];

/** A namespace and an account that are there already. */
export interface AzureConnections {
  readonly serviceBus: string;
  /** Where queues are made, if not there. */
  readonly serviceBusAdmin?: string | undefined;
  readonly storage: string;
}

export interface StackSettings {
  /** Data of PostgreSQL and Azurite, and the logs. */
  readonly stateDirectory: string;
  /** Nothing is kept: data in memory where that is possible, and no care for crashes of the machine. */
  readonly throwAway: boolean;
  readonly ports: Ports;
  readonly transports: readonly TransportName[];
  /** Used in place of the Service Bus broker and Azurite, which aren't started then. */
  readonly azure?: AzureConnections | undefined;
  /** BullMQ runs on it; without it, on PostgreSQL. */
  readonly redisUrl: string | undefined;
  /** Passed on to every role. */
  readonly environment: Readonly<Record<string, string>>;
}

const Port = (fallback: number) => Integer(1, 65_535, fallback);

const Shared = {
  REDIS_URL: v.optional(Text),
  LOG_LEVEL: v.optional(Text),
};

const DevEnvironment = v.object({
  ...Shared,
  ALLOW_SCHEMA_REDEPLOY: v.optional(Text),
  DEFAULT_TRANSPORT: v.optional(Text),
  SLUICE_STATE_DIR: v.optional(Text, ".sluice"),
  SLUICE_API_PORT: Port(8080),
  SLUICE_ORCHESTRATOR_PORT: Port(8081),
  SLUICE_BULLMQ_RUNNER_PORT: Port(8082),
  SLUICE_STORAGE_QUEUE_RUNNER_PORT: Port(8083),
  SLUICE_SERVICE_BUS_RUNNER_PORT: Port(8084),
  SLUICE_POISON_HANDLER_PORT: Port(8085),
  SLUICE_POSTGRES_PORT: Port(54_329),
  SLUICE_BLOB_PORT: Port(10_000),
  SLUICE_QUEUE_PORT: Port(10_001),
  SLUICE_SERVICE_BUS_PORT: Port(5_672),
  SLUICE_SERVICE_BUS_ADMIN_PORT: Port(5_300),
});

/** The variable of `npm run dev` that chooses a port: SLUICE_BULLMQ_RUNNER_PORT of bullmqRunner. */
export function portVariable(name: string): string {
  return `SLUICE_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}_PORT`;
}

/** `npm run dev`: the same ports and data each time. */
export function loadDevSettings(environment: NodeJS.ProcessEnv): StackSettings {
  const { SLUICE_STATE_DIR, REDIS_URL, LOG_LEVEL, ALLOW_SCHEMA_REDEPLOY, DEFAULT_TRANSPORT, ...config } = loadEnvironment(
    DevEnvironment,
    environment,
  );
  return {
    stateDirectory: resolve(SLUICE_STATE_DIR),
    throwAway: false,
    transports: stackTransports,
    ports: {
      api: config.SLUICE_API_PORT,
      orchestrator: config.SLUICE_ORCHESTRATOR_PORT,
      bullmqRunner: config.SLUICE_BULLMQ_RUNNER_PORT,
      storageQueueRunner: config.SLUICE_STORAGE_QUEUE_RUNNER_PORT,
      serviceBusRunner: config.SLUICE_SERVICE_BUS_RUNNER_PORT,
      poisonHandler: config.SLUICE_POISON_HANDLER_PORT,
      postgres: config.SLUICE_POSTGRES_PORT,
      blob: config.SLUICE_BLOB_PORT,
      queue: config.SLUICE_QUEUE_PORT,
      serviceBus: config.SLUICE_SERVICE_BUS_PORT,
      serviceBusAdmin: config.SLUICE_SERVICE_BUS_ADMIN_PORT,
    },
    redisUrl: REDIS_URL,
    environment: definedOnly({ LOG_LEVEL, ALLOW_SCHEMA_REDEPLOY, DEFAULT_TRANSPORT }),
  };
}

/** `npm run demo` and `npm run compare`: free ports and a new directory. */
export async function createDemoSettings(environment: NodeJS.ProcessEnv): Promise<StackSettings> {
  const { REDIS_URL, LOG_LEVEL } = loadEnvironment(v.object(Shared), environment);
  const ports: Record<string, number> = {};
  for (const name of portNames) ports[name] = await getPort();
  return {
    stateDirectory: await createTemporaryState(),
    throwAway: true,
    transports: stackTransports,
    ports: ports as Ports,
    redisUrl: REDIS_URL,
    environment: definedOnly({ LOG_LEVEL }),
  };
}

function definedOnly(values: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).flatMap(([name, value]) => value === undefined ? [] : [[name, value]]));
}

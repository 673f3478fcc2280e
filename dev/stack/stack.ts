import { createConnection } from "node:net";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CommonEnvironment, loadEnvironment, readJobSettings } from "../../shared/environment.ts";
import { createAllJobs } from "../../shared/jobs/all.ts";
import { createJobCatalog, type JobCatalog } from "../../shared/jobs/catalog.ts";
import { openDatabase } from "../../shared/store/database.ts";
import { migrate } from "../../shared/store/migrate.ts";
import { closeTransports, openTransports, provisionTransports } from "../../shared/transport/open-transports.ts";
import { listQueuesOf } from "../../shared/transport/queue-names.ts";
import { endOrphan } from "../postgres/orphan.ts";
import { dataDirectoryOf } from "./data-directory.ts";
import {
  type Addresses,
  createAddresses,
  createAzuritePrograms,
  createPostgresProgram,
  createRoleEnvironment,
  createRolePrograms,
  createServiceBusProgram,
  databaseUrl,
} from "./programs.ts";
import { type Ports, portVariable, type StackSettings } from "./settings.ts";
import { type Program, supervise, type Supervised } from "./supervise.ts";

/** PostgreSQL, Azurite and every role, each a process of its own. */
export interface Stack {
  readonly addresses: Addresses;
  /** Resolves when every role is ready; rejects if one can't be started, or once the signal is aborted. */
  start(signal: AbortSignal): Promise<void>;
  /** The last lines that each process wrote to its log. */
  logTails(lines: number): readonly { readonly name: string; readonly lines: readonly string[] }[];
  /** Ends whatever was started. */
  stop(): Promise<void>;
}

const roleGraceMs = 9_000;
const serverGraceMs = 15_000;
const freePortMs = 10_000;

/** `say` writes a line to the terminal. */
export function createStack(settings: StackSettings, say: (line: string) => void): Stack {
  const addresses = createAddresses(settings);
  const logDirectory = join(settings.stateDirectory, "logs");
  const servers: Supervised[] = [];
  const roles: Supervised[] = [];

  async function run(programs: readonly Program[], supervised: Supervised[], signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const started = programs.map((program) => supervise(program, { logDirectory, say }));
    supervised.push(...started);
    await Promise.all(started.map((each) => each.whenReady(signal)));
  }

  return {
    addresses,
    async start(signal) {
      const environment = createRoleEnvironment(settings, addresses);
      const config = loadEnvironment(CommonEnvironment, environment);
      await mkdir(logDirectory, { recursive: true });
      await endOrphan(await dataDirectoryOf(settings.stateDirectory));
      await whenPortsAreFree(settings.ports, signal);
      const jobs = createJobCatalog(createAllJobs(readJobSettings(config)).jobs);
      const programs = [
        await createPostgresProgram(settings),
        ...(settings.azure ? [] : [
          ...createAzuritePrograms(settings),
          await createServiceBusProgram(settings, listQueuesOf("service_bus", jobs)),
        ]),
      ];
      await run(programs, servers, signal);
      await createDatabases(settings.ports.postgres);
      await provision(config, jobs);
      await run(createRolePrograms(settings, environment), roles, signal);
    },
    logTails: (lines) => [...roles, ...servers].map(({ name, log }) => ({ name, lines: log.tail(lines) })),
    async stop() {
      await Promise.all(roles.map((role) => role.stop(roleGraceMs)));
      await Promise.all(servers.map((server) => server.stop(serverGraceMs)));
    },
  };
}

/** Waits a little: what a killed stack left behind is still ending. */
async function whenPortsAreFree(ports: Ports, signal: AbortSignal): Promise<void> {
  const giveUpAt = performance.now() + freePortMs;
  for (const [name, port] of Object.entries(ports)) {
    while (await isTaken(port)) {
      signal.throwIfAborted();
      if (performance.now() > giveUpAt) {
        throw new Error(`${portVariable(name)}: ${port} is taken by another program`);
      }
      await sleep(100);
    }
  }
}

async function isTaken(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = createConnection({ host: "127.0.0.1", port });
  socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
  return await promise.finally(() => socket.destroy());
}

async function createDatabases(port: number): Promise<void> {
  const sql = openDatabase(databaseUrl(port, "postgres"), { applicationName: "stack", max: 1 });
  try {
    for (const name of ["sluice", "bullmq"]) {
      const [found] = await sql`select from pg_database where datname = ${name}`;
      if (!found) await sql`create database ${sql(name)}`;
    }
  } finally {
    await sql.end();
  }
}

/** The schema, and the queues of every transport. */
async function provision(config: CommonEnvironment, jobs: JobCatalog): Promise<void> {
  const sql = openDatabase(config.DATABASE_URL, { applicationName: "stack", max: 1 });
  const transports = openTransports(config);
  try {
    await migrate(sql);
    await provisionTransports(transports, jobs);
  } finally {
    await closeTransports(transports);
    await sql.end();
  }
}

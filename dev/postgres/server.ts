import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { type Account, chooseAccount } from "./account.ts";
import { endOrphan } from "./orphan.ts";
import { findPrograms, type Programs } from "./programs.ts";

export interface PostgresOptions {
  /** Of the data; created if missing. Its parents must let every account pass if this is started by root. */
  readonly directory: string;
  readonly port: number;
  /** Whether data survive a crash of the machine. */
  readonly durable: boolean;
  readonly settings?: Readonly<Record<string, string | number>>;
  readonly onLog?: (line: string) => void;
}

export interface PostgresServer {
  /** Of the database `postgres`. */
  readonly url: string;
  readonly pid: number;
  /** Resolves when the server is gone, however that came. */
  readonly ended: Promise<void>;
  /** Fast: running statements are cancelled. */
  stop(): Promise<void>;
}

/** Starts PostgreSQL on the loopback address; resolves once it takes connections. As root, another account runs it. */
export async function startPostgresServer(options: PostgresOptions): Promise<PostgresServer> {
  const directory = resolve(options.directory);
  const account = await chooseAccount(directory);
  const programs = await findPrograms(account);
  await endOrphan(directory);
  if (!await exists(join(directory, "PG_VERSION"))) {
    await createCluster(directory, { programs, account, durable: options.durable });
  }
  const server = spawn(programs.postgres, serverArguments({ ...options, directory }), {
    ...account,
    ...surroundings,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const kill = () => server.kill("SIGQUIT");
  process.once("exit", kill);
  const ended = once(server, "close").then(() => {
    process.off("exit", kill);
  });
  await untilReady(server, options.onLog ?? (() => {}));
  return {
    url: `postgres://postgres@127.0.0.1:${options.port}/postgres`,
    pid: server.pid ?? 0,
    ended,
    async stop() {
      server.kill("SIGINT");
      await ended;
    },
  };
}

/** Said by PostgreSQL itself. */
export const postgresReadyLine = "database system is ready to accept connections";

/** Not the directory of this process, which may be closed to the account, nor its locale. */
const surroundings = { cwd: "/", env: { PATH: process.env.PATH, LC_ALL: "C", TZ: "UTC" } };

function serverArguments({ directory, port, durable, settings = {} }: PostgresOptions): string[] {
  const all = {
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    max_connections: 300,
    shared_buffers: "128MB",
    max_wal_size: "1GB",
    ...(!durable && { fsync: "off", synchronous_commit: "off", full_page_writes: "off" }),
    ...settings,
  };
  return ["-D", directory, "-p", String(port), ...Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`])];
}

/** The cluster appears whole or not at all. Its encoding and order of text don't depend on the machine. */
async function createCluster(
  directory: string,
  { programs, account, durable }: { programs: Programs; account: Account; durable: boolean },
): Promise<void> {
  const unfinished = `${directory}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { recursive: true });
  await chmod(unfinished, 0o700);
  if (account.uid !== undefined && account.gid !== undefined) await chown(unfinished, account.uid, account.gid);
  const initdb = spawn(programs.initdb, [
    `--pgdata=${unfinished}`,
    "--username=postgres",
    "--auth=trust", // the loopback address is all it listens on
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
    ...(durable ? [] : ["--no-sync"]),
  ], { ...account, ...surroundings, stdio: ["ignore", "ignore", "pipe"] });
  let output = "";
  initdb.stderr?.on("data", (chunk) => output += chunk);
  const [code] = await once(initdb, "close");
  if (code !== 0) throw new Error(`initdb ended with ${code}: ${output.trim()}`);
  await rm(directory, { recursive: true, force: true });
  await mkdir(dirname(directory), { recursive: true });
  await rename(unfinished, directory);
}

async function untilReady(server: ChildProcess, onLog: (line: string) => void): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const said: string[] = [];
  if (server.stderr) {
    createInterface({ input: server.stderr }).on("line", (line) => {
      said.push(line);
      said.splice(0, said.length - 20);
      onLog(line);
      if (line.includes(postgresReadyLine)) resolve();
    });
  }
  server.once("error", reject);
  server.once("close", (code) => reject(new Error(`PostgreSQL ended with ${code}: ${said.join("\n")}`)));
  await promise;
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(() => true, () => false);
}

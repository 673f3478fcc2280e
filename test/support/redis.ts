import getPort from "get-port";
import { Redis } from "ioredis";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A redis-server on a free port, append-only file in a temporary directory. */
export interface RedisServer {
  readonly url: string;
  readonly port: number;
  /** Stops it and starts it again, on the same port and data. */
  restart(): Promise<void>;
  /** Ends it as a crash would. `restart` starts it again. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

/** Whether there is a redis-server to start. Says so if not; where `CI` is set it must be there. */
export function redisIsInstalled(): boolean {
  if (spawnSync("redis-server", ["--version"]).status === 0) return true;
  const message = "redis-server is not installed";
  if (process.env.CI) throw new Error(message);
  console.warn(`\n*** ${message}: tests of BullMQ on Redis are skipped ***\n`);
  return false;
}

/** Rejects if it doesn't answer within 15 seconds. */
export async function startRedis(): Promise<RedisServer> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-redis-"));
  const port = await getPort();
  const url = `redis://127.0.0.1:${port}`;
  const start = async () => {
    const child = spawn("redis-server", [
      ...["--port", String(port), "--bind", "127.0.0.1", "--dir", directory],
      ...["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"],
    ], { stdio: "ignore" });
    process.once("exit", () => child.kill("SIGKILL"));
    await untilItAnswers(url);
    return child;
  };
  let server = await start();
  return {
    url,
    port,
    async restart() {
      await end(server, "SIGTERM");
      server = await start();
    },
    kill: () => end(server, "SIGKILL"),
    async stop() {
      await end(server, "SIGKILL");
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function untilItAnswers(url: string): Promise<void> {
  const client = new Redis(url, { maxRetriesPerRequest: null, retryStrategy: (attempt) => attempt < 300 ? 50 : null });
  client.on("error", () => {});
  try {
    await client.ping();
  } finally {
    client.disconnect();
  }
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  child.kill(signal);
  await exit;
}

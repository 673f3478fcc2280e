import getPort from "get-port";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Azurite's queue and blob services, a process of their own on free ports, data in a temporary directory. */
export interface Azurite {
  /** For the clients of both services. */
  readonly connectionString: string;
  readonly queueUrl: string;
  readonly blobUrl: string;
  readonly pid: number;
  /** Stops it and starts it again, on the same ports and data. */
  restart(): Promise<void>;
  /** Ends it as a crash would: what it hasn't saved (it saves every five seconds) is lost. `restart` starts it again. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

// Azurite's well-known development account.
const accountName = "devstoreaccount1";
const accountKey = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/** Telemetry is off, and requests of any API version are accepted. Rejects if it isn't there within 30 seconds. */
export async function startAzurite(): Promise<Azurite> {
  const location = await mkdtemp(join(tmpdir(), "sluice-azurite-"));
  const ports = { queue: await getPort(), blob: await getPort() };
  const queueUrl = `http://127.0.0.1:${ports.queue}/${accountName}`;
  const blobUrl = `http://127.0.0.1:${ports.blob}/${accountName}`;
  const services = [
    { name: "queue", port: ports.queue },
    { name: "blob", port: ports.blob },
  ] as const;

  const start = () => Promise.all(services.map(({ name, port }) => startService({ name, port, location })));
  const end = async (signal: NodeJS.Signals) => {
    await Promise.all(processes.map((service) => endProcess(service, signal)));
  };
  let processes = await start();

  return {
    connectionString:
      `DefaultEndpointsProtocol=http;AccountName=${accountName};AccountKey=${accountKey};QueueEndpoint=${queueUrl};BlobEndpoint=${blobUrl};`,
    queueUrl,
    blobUrl,
    get pid() {
      return processes[0]?.pid ?? 0;
    },
    async restart() {
      await end("SIGTERM");
      processes = await start();
    },
    kill: () => end("SIGKILL"),
    async stop() {
      await end("SIGKILL");
      await rm(location, { recursive: true, force: true });
    },
  };
}

async function startService(service: { name: "queue" | "blob"; port: number; location: string }): Promise<ChildProcess> {
  const main = createRequire(import.meta.url).resolve(`azurite/dist/src/${service.name}/main.js`);
  const child = spawn(process.execPath, [
    main,
    `--${service.name}Host=127.0.0.1`,
    `--${service.name}Port=${service.port}`,
    `--location=${join(service.location, service.name)}`,
    "--silent",
    "--loose",
    "--skipApiVersionCheck",
    "--disableTelemetry",
  ], { stdio: ["ignore", "pipe", "pipe"] });
  process.once("exit", () => child.kill("SIGKILL"));
  await saysReady(child, service.name);
  return child;
}

/** Azurite prints that it listens, even if silent. */
async function saysReady(child: ChildProcess, name: string): Promise<void> {
  let output = "";
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new Error(`azurite ${name} did not start in 30 s: ${output}`)), 30_000);
  const read = (chunk: Buffer) => {
    output += chunk.toString();
    if (output.includes("successfully listens on")) resolve();
  };
  child.stdout?.on("data", read);
  child.stderr?.on("data", read);
  child.once("exit", (code) => reject(new Error(`azurite ${name} ended with ${code}: ${output}`)));
  await promise.finally(() => clearTimeout(timer));
}

async function endProcess(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  child.kill(signal);
  await exit;
}

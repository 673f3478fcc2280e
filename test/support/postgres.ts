import getPort from "get-port";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startPostgresServer } from "../../dev/postgres/server.ts";

/** A PostgreSQL server of the test's own, on a free port, its data in a temporary directory. */
export interface PostgresServer {
  /** Of the database `postgres`; give others their own with `createDatabase`. */
  readonly url: string;
  readonly port: number;
  /** Stops it, as a broken machine would look from outside, and starts it again on the same port and data. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export async function startPostgres(): Promise<PostgresServer> {
  const port = await getPort();
  const directory = await mkdtemp(join(tmpdir(), "sluice-postgres-"));
  await chmod(directory, 0o711); // if this is root, another account runs PostgreSQL
  const start = () =>
    startPostgresServer({
      directory: join(directory, "data"),
      port,
      durable: false,
      settings: { max_connections: 400, shared_buffers: "256MB", max_wal_size: "2GB" },
    });
  let server = await start();
  return {
    url: server.url,
    port,
    async restart() {
      await server.stop();
      server = await start();
    },
    async stop() {
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

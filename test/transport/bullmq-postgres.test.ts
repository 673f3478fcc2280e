import { createPostgresBackend, Queue } from "bullmq";
import pg from "pg";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import { startPostgres } from "../support/postgres.ts";
import { describeTransport } from "./conformance.ts";

describeTransport("bullmq on PostgreSQL", async () => {
  const postgres = await startPostgres();
  const pool = new pg.Pool({ connectionString: postgres.url, options: "-c search_path=bullmq" });
  pool.on("error", () => {}); // the server is restarted
  return {
    open: (options) => openBullmqTransport({ databaseUrl: postgres.url }, options),
    async putByHand(name, text) {
      const queue = new Queue(name, { connection: pool as never }, createPostgresBackend);
      queue.on("error", () => {});
      await queue.add("by hand", text);
      await queue.close();
    },
    openUnreachable: () => openBullmqTransport({ databaseUrl: "postgres://nobody@127.0.0.1:1/nothing" }),
    restart: postgres.restart,
    async stop() {
      await pool.end();
      await postgres.stop();
    },
  };
}, { remote: true });

import { rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { startPostgresServer } from "./server.ts";

// PostgreSQL can't notice that whoever wanted it is gone. This process can: its stdin ends.
const { values } = parseArgs({
  options: {
    directory: { type: "string" },
    port: { type: "string" },
    /** Removed, with all that is in it, if the starter is gone. Data in it needn't be durable. */
    "throw-away": { type: "string" },
  },
});
const { directory, port, "throw-away": throwAway } = values;
if (!directory || !port) throw new Error("--directory and --port are missing");

const stopping = Promise.withResolvers<"asked" | "alone">();
process.on("SIGTERM", () => stopping.resolve("asked"));
process.on("SIGINT", () => stopping.resolve("asked"));
process.stdin.on("close", () => stopping.resolve("alone")).resume();
process.stderr.on("error", () => {}); // nobody reads it any more

const server = await startPostgresServer({
  directory,
  port: Number(port),
  durable: throwAway === undefined,
  onLog: (line) => console.error(line),
});
const reason = await Promise.race([stopping.promise, server.ended]);
if (!reason) process.exit(1); // it died; whoever keeps this process starts it again
await server.stop();
if (reason === "alone" && throwAway) {
  await sleep(500); // the other processes are ending, too
  await rm(throwAway, { recursive: true, force: true, maxRetries: 5 });
}
process.exit(0);

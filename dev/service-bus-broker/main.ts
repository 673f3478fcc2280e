import { once } from "node:events";
import { stackStopSignal } from "../stack/stop-signal.ts";
import { ArgumentError, parseCommandLine, usage } from "./command-line.ts";
import { startServiceBusBroker } from "./start.ts";

try {
  const options = parseCommandLine(process.argv.slice(2));
  if (options === "help") console.log(usage);
  else await run(options);
} catch (error) {
  console.error(error instanceof ArgumentError ? `${error.message}\n\n${usage}` : describe(error));
  process.exitCode = error instanceof ArgumentError ? 2 : 1;
}

async function run(options: Exclude<ReturnType<typeof parseCommandLine>, "help">): Promise<void> {
  const signal = stackStopSignal();
  const broker = await startServiceBusBroker(options);
  console.log(`The Service Bus broker runs. Ctrl-C ends it, and its messages with it.

  AMQP            ${broker.connectionString}
  administration  ${broker.adminConnectionString} (plain HTTP)
  queues          ${Object.keys(options.queues ?? {}).join(", ") || "none yet"}
`);
  if (!signal.aborted) await once(signal, "abort");
  await broker.stop();
  console.log("The Service Bus broker has ended.");
  process.exit(); // the signal's watch on npm would go on
}

function describe(error: unknown): string {
  return `The Service Bus broker did not start: ${error instanceof Error ? error.message : error}`;
}

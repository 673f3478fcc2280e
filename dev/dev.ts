import { once } from "node:events";
import { existsSync } from "node:fs";
import { relative } from "node:path";
import { lockState } from "./stack/only-one.ts";
import { loadDevSettings } from "./stack/settings.ts";
import { createStack } from "./stack/stack.ts";
import { stackStopSignal } from "./stack/stop-signal.ts";
import { describeLogTails } from "./stack/describe-log-tails.ts";

if (existsSync(".env")) process.loadEnvFile(".env");
const signal = stackStopSignal();
const settings = loadDevSettings(process.env);
const { ports, stateDirectory } = settings;
const say = (line: string) => console.log(line);
const unlock = await lockState(stateDirectory).catch((error: Error) => {
  console.error(error.message);
  process.exit(1);
});
const stack = createStack(settings, say);
try {
  say("Starting PostgreSQL, Azurite, the Service Bus broker, api, orchestrator, three task-runners and poison-handler …");
  await stack.start(signal);
  const { addresses } = stack;
  say(`
Sluice runs. Ctrl-C ends it; state and logs stay in ${relative(".", stateDirectory) || "."}.

  api               ${addresses.apiUrl}   health: ${addresses.apiUrl}/api/health
  probes            orchestrator :${ports.orchestrator}, task-runners :${ports.bullmqRunner} (bullmq), :${ports.storageQueueRunner} (storage_queue), :${ports.serviceBusRunner} (service_bus), poison-handler :${ports.poisonHandler}
  PostgreSQL        ${addresses.databaseUrl}
  BullMQ            ${settings.redisUrl ? "Redis, of REDIS_URL" : addresses.bullmqDatabaseUrl}
  Azurite           blob :${ports.blob}, queue :${ports.queue}, account devstoreaccount1
  Service Bus       ${addresses.serviceBusConnectionString} administration :${ports.serviceBusAdmin}

Submit a job ("transport" may be "bullmq", "storage_queue" or "service_bus"):

  curl -d '{"n": 100, "transport": "bullmq"}' ${addresses.apiUrl}/api/jobs/submit/hello_world
`);
  if (!signal.aborted) await once(signal, "abort");
} catch (error) {
  if (!signal.aborted) {
    console.error(describeLogTails(stack.logTails(15)));
    console.error(`\nThe stack did not start: ${error instanceof Error ? error.message : error}`);
    process.exitCode = 1;
  }
} finally {
  say("Stopping …");
  await stack.stop();
  await unlock();
}

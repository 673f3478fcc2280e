import { openAzureStorage } from "../../shared/azure-storage.ts";
import { openClaimCheckFromEnvironment } from "../../shared/claim-check/open-from-environment.ts";
import { createId, createLogger } from "../../shared/log.ts";
import { createProbes, listen } from "../../shared/probes.ts";
import { openDatabase } from "../../shared/store/database.ts";
import { openTransports } from "../../shared/transport/open-transports.ts";
import { loadConfig } from "../../services/task-runner/config.ts";
import { runTaskRunner } from "../../services/task-runner/run.ts";
import { handleSuffer } from "./cruel-job.ts";

// A task-runner with the handler of the cruel task: a process of its own, as it won't live long.
const config = loadConfig(process.env);
const log = createLogger("task-runner", "warn");
const sql = openDatabase(config.DATABASE_URL, { applicationName: "cruel-runner", max: 4 });
const azure = openAzureStorage(config);
const parts = {
  sql,
  id: createId("runner"),
  handlers: new Map([[handleSuffer.task.type, handleSuffer]]),
  transports: openTransports(config, azure, log),
  claimCheck: openClaimCheckFromEnvironment(config, azure),
  log,
};
const probes = await listen(createProbes(async () => null), { host: "127.0.0.1", port: 0 });
console.log(JSON.stringify({ port: probes.port }));
await runTaskRunner(parts, config, new AbortController().signal);

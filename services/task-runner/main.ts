import { openAzureStorage } from "../../shared/azure-storage.ts";
import { openClaimCheckFromEnvironment } from "../../shared/claim-check/open-from-environment.ts";
import { loadOrExit, readJobSettings } from "../../shared/environment.ts";
import { createAllJobs } from "../../shared/jobs/all.ts";
import { createId, createLogger } from "../../shared/log.ts";
import { createProbes, listenOrExit } from "../../shared/probes.ts";
import { createReadinessCheck } from "../../shared/readiness.ts";
import { stopSignal } from "../../shared/stop-signal.ts";
import { openDatabase } from "../../shared/store/database.ts";
import { whenSchemaIsReady } from "../../shared/store/ready.ts";
import { closeTransports, openTransports } from "../../shared/transport/open-transports.ts";
import { createJudges } from "./assessment/judges.ts";
import { loadConfig } from "./config.ts";
import { createContainers } from "./containers.ts";
import { runTaskRunner } from "./run.ts";
import { createTaskHandlers } from "./tasks/catalog.ts";

const config = loadOrExit(() => loadConfig(process.env));
const log = createLogger("task-runner", config.LOG_LEVEL);
const signal = stopSignal();
const sql = openDatabase(config.DATABASE_URL, { applicationName: "task-runner", max: 16 });
const azure = openAzureStorage(config);
const transports = loadOrExit(() => openTransports(config, azure, log));
const claimCheck = loadOrExit(() => openClaimCheckFromEnvironment(config, azure));
const id = createId("runner");
const probes = await listenOrExit(createProbes(createReadinessCheck({ sql, log })), { host: config.HOST, port: config.PORT });
try {
  await whenSchemaIsReady(sql, signal, log);
  log.info({ id, port: probes.port, transport: config.transport, queues: config.queues }, "task-runner runs");
  const { assessment } = createAllJobs(readJobSettings(config));
  const handlers = createTaskHandlers({
    containers: createContainers(azure.blobAccount()),
    assessment,
    judges: createJudges(config),
  });
  await runTaskRunner({ sql, id, handlers, transports, claimCheck, log }, config, signal);
  log.info("task-runner drained");
} finally {
  await probes.close();
  await closeTransports(transports);
  await sql.end({ timeout: 5 });
}

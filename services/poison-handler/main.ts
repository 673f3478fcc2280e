import { openAzureStorage } from "../../shared/azure-storage.ts";
import { openClaimCheckFromEnvironment } from "../../shared/claim-check/open-from-environment.ts";
import { loadOrExit, readJobSettings } from "../../shared/environment.ts";
import { createAllJobs } from "../../shared/jobs/all.ts";
import { createJobCatalog } from "../../shared/jobs/catalog.ts";
import { createId, createLogger } from "../../shared/log.ts";
import { createProbes, listenOrExit } from "../../shared/probes.ts";
import { createReadinessCheck } from "../../shared/readiness.ts";
import { stopSignal } from "../../shared/stop-signal.ts";
import { openDatabase } from "../../shared/store/database.ts";
import { whenSchemaIsReady } from "../../shared/store/ready.ts";
import { closeTransports, openTransports } from "../../shared/transport/open-transports.ts";
import { listQueueNames } from "../../shared/transport/queue-names.ts";
import { loadConfig } from "./config.ts";
import { runPoisonHandler } from "./run.ts";

const config = loadOrExit(() => loadConfig(process.env));
const log = createLogger("poison-handler", config.LOG_LEVEL);
const signal = stopSignal();
const sql = openDatabase(config.DATABASE_URL, { applicationName: "poison-handler", max: 8 });
const azure = openAzureStorage(config);
const transports = loadOrExit(() => openTransports(config, azure, log));
const claimCheck = loadOrExit(() => openClaimCheckFromEnvironment(config, azure));
const id = createId("poison");
const probes = await listenOrExit(createProbes(createReadinessCheck({ sql, log })), { host: config.HOST, port: config.PORT });
try {
  await whenSchemaIsReady(sql, signal, log);
  log.info({ id, port: probes.port, transports: [...transports.keys()] }, "poison-handler runs");
  const queueNames = listQueueNames(transports, createJobCatalog(createAllJobs(readJobSettings(config)).jobs));
  await runPoisonHandler({ sql, id, transports, queueNames, claimCheck, log }, config, signal);
  log.info("poison-handler drained");
} finally {
  await probes.close();
  await closeTransports(transports);
  await sql.end({ timeout: 5 });
}

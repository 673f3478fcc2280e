import { getConnInfo } from "@hono/node-server/conninfo";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { openAzureStorage } from "../../shared/azure-storage.ts";
import { openClaimCheckFromEnvironment } from "../../shared/claim-check/open-from-environment.ts";
import { loadOrExit, readJobSettings } from "../../shared/environment.ts";
import { createAllJobs } from "../../shared/jobs/all.ts";
import { createJobCatalog } from "../../shared/jobs/catalog.ts";
import { createId, createLogger } from "../../shared/log.ts";
import { listenOrExit } from "../../shared/probes.ts";
import { stopSignal } from "../../shared/stop-signal.ts";
import { openDatabase } from "../../shared/store/database.ts";
import { closeTransports, openTransports } from "../../shared/transport/open-transports.ts";
import { createApp } from "./app.ts";
import { createCircuits } from "./circuits.ts";
import { loadConfig } from "./config.ts";
import { createEmulatorCheck } from "./emulators.ts";

const config = loadOrExit(() => loadConfig(process.env));
const log = createLogger("api", config.LOG_LEVEL);
const signal = stopSignal();
const sql = openDatabase(config.DATABASE_URL, { applicationName: "api", max: 20 });
const azure = openAzureStorage(config);
const opened = openTransports(config, azure, log);
const { transports, isAway } = createCircuits(opened, { log, signal });
const id = createId("api");
const app = createApp({
  sql,
  transports,
  jobs: createJobCatalog(createAllJobs(readJobSettings(config)).jobs),
  log,
  sender: id,
  accepting: config.accepting,
  defaultTransport: config.defaultTransport,
  fallbackTransport: config.FALLBACK_TRANSPORT,
  isAway,
  prices: config.BROKER_PRICES,
  isEmulator: createEmulatorCheck(config),
  allowSchemaRedeploy: config.ALLOW_SCHEMA_REDEPLOY,
  allowAdminRoutes: config.ALLOW_ADMIN_ROUTES,
  openClaimCheck: () => openClaimCheckFromEnvironment(config, azure),
  redact: config.POISON_REDACT,
  remoteAddress: (context) => getConnInfo(context).remote.address,
});
const server = await listenOrExit(app, { host: config.HOST, port: config.PORT });
try {
  log.info({ id, port: server.port, transports: [...transports.keys()] }, "api runs");
  if (!signal.aborted) await once(signal, "abort");
} finally {
  await Promise.race([server.close(), sleep(config.GRACE_MS, undefined, { ref: false })]);
  await closeTransports(opened);
  await sql.end({ timeout: 5 });
  log.info("api drained");
}

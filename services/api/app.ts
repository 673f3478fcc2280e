import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { methodNotAllowed } from "hono/method-not-allowed";
import { requestId } from "hono/request-id";
import { secureHeaders } from "hono/secure-headers";
import { timeout } from "hono/timeout";
import type { Logger } from "pino";
import type { ClaimCheck } from "../../shared/claim-check/claim-check.ts";
import { PermanentError } from "../../shared/errors.ts";
import type { JobCatalog } from "../../shared/jobs/catalog.ts";
import { createId } from "../../shared/log.ts";
import { createProbes } from "../../shared/probes.ts";
import type { Sql } from "../../shared/store/database.ts";
import { listQueueNames } from "../../shared/transport/queue-names.ts";
import type { Transports } from "../../shared/transport/send-batches.ts";
import type { TransportName } from "../../shared/transports.ts";
import { isLocal } from "./admin.ts";
import { listPrices, type PriceTable } from "./prices.ts";
import { answerProblem, describeProblem, Problem } from "./problem.ts";
import { createRedaction, defaultRedaction, type Redact } from "./redact.ts";
import { logRequests } from "./request-log.ts";
import { createReadinessCheck } from "../../shared/readiness.ts";
import { createRouter } from "./routing.ts";
import { createAssessmentRoutes } from "./routes/assessments.ts";
import { createComparisonRoutes } from "./routes/comparison.ts";
import { createDiscardRoutes } from "./routes/discards.ts";
import { createHealthRoutes } from "./routes/health.ts";
import { createJobRoutes } from "./routes/jobs.ts";
import { createPoisonRoutes } from "./routes/poison.ts";
import { createQueueRoutes } from "./routes/queues.ts";
import { createReconciliationRoutes } from "./routes/reconciliation.ts";
import { createRecordRoutes } from "./routes/records.ts";
import { createRedriveRoutes } from "./routes/redrives.ts";
import { createRehomeRoutes } from "./routes/rehome.ts";
import { createReportRoutes } from "./routes/reports.ts";
import { createRoutingRoutes } from "./routes/routing.ts";
import { createSchemaRoutes } from "./routes/schema.ts";

export const maxBodyBytes = 1024 * 1024;
const requestMs = 25_000;

export interface ApiDependencies {
  readonly sql: Sql;
  readonly transports: Transports;
  readonly jobs: JobCatalog;
  readonly log: Logger;
  /** Who holds the locks of what this process sends: new at each start. */
  readonly sender: string;
  /** Those that take new jobs. Default: all of `transports`. */
  readonly accepting?: readonly TransportName[];
  /** Where jobs go whose client doesn't say. Default: the first of `accepting`. */
  readonly defaultTransport?: TransportName | undefined;
  /** Where new jobs go while the broker they were for is away. */
  readonly fallbackTransport?: TransportName | undefined;
  /** What operations on brokers cost. Default: list prices. */
  readonly prices?: PriceTable;
  /** Whether a transport's broker stands in for the real one. Default: none does. */
  readonly isEmulator?: (transport: TransportName) => boolean;
  /** Whether a broker is known to be away. Default: none is. */
  readonly isAway?: (transport: TransportName) => boolean;
  readonly allowSchemaRedeploy?: boolean;
  /** Admin routes answer to anybody, not only on the loopback address. */
  readonly allowAdminRoutes?: boolean;
  /** Where the whole bodies of poison messages are. Default: nowhere. */
  readonly openClaimCheck?: () => ClaimCheck;
  /** Takes secrets out of what poison messages and errors say. Default: by the usual names. */
  readonly redact?: Redact;
  /** Where a request comes from, if the server can tell. */
  readonly remoteAddress?: (context: Context) => string | undefined;
}

/** The public HTTP API, on web standards alone: it needs no server to be asked. */
export function createApp(dependencies: ApiDependencies): Hono {
  const { sql, transports, jobs, log, sender, remoteAddress = () => undefined } = dependencies;
  const accepting = dependencies.accepting ?? [...transports.keys()];
  const defaultTransport = dependencies.defaultTransport ?? accepting[0];
  if (defaultTransport === undefined) throw new Error("no transport is enabled");
  const { fallbackTransport: fallback, isAway = () => false } = dependencies;
  const router = createRouter(sql, { accepting, defaultTransport, fallback, isAway });
  const isAdminAllowed = (context: Context) => dependencies.allowAdminRoutes || isLocal(context, remoteAddress(context));
  const { openClaimCheck = findNoClaimCheck, redact = createRedaction(defaultRedaction) } = dependencies;
  const queueNames = listQueueNames(transports, jobs);

  const app = new Hono();
  app.use(requestId({ limitLength: 128, generator: () => createId("req") }));
  app.use(logRequests(log));
  app.use(secureHeaders());
  app.use((context, next) => context.req.path === "/api/db/schema/redeploy" ? next() : timeout(requestMs)(context, next));
  app.use(bodyLimit({
    maxSize: maxBodyBytes,
    onError: (context) =>
      answerProblem(
        context,
        // The rest of the body isn't read, so the connection can't be used again: say so, or the client's next request fails.
        new Problem("body-too-large", `a body has at most ${maxBodyBytes} bytes`, { headers: { connection: "close" } }),
      ),
  }));
  app.use(methodNotAllowed({
    app,
    onMethodNotAllowed: (context, methods) =>
      answerProblem(
        context,
        new Problem("method-not-allowed", `allowed: ${methods.join(", ")}`, { headers: { allow: methods.join(", ") } }),
      ),
  }));
  app.onError((error, context) => answerProblem(context, describeProblem(error)));
  app.notFound((context) => answerProblem(context, new Problem("not-found", "no route has this path")));

  app.route("/", createProbes(createReadinessCheck({ sql, log })));
  app.route("/api/health", createHealthRoutes({ sql, transports, queueNames, log }));
  app.route("/api/jobs", createJobRoutes({ sql, transports, jobs, sender, router }));
  app.route("/api/assessments", createAssessmentRoutes({ sql }));
  app.route(
    "/api/metrics",
    createComparisonRoutes({
      sql,
      prices: dependencies.prices ?? listPrices,
      isEmulator: dependencies.isEmulator ?? (() => false),
    }),
  );
  app.route("/api/db", createRecordRoutes({ sql }));
  app.route("/api/reconciliation", createReportRoutes({ sql, redact }));
  app.route("/api/poison", createPoisonRoutes({ sql, openClaimCheck, redact, isAdminAllowed }));
  app.route(
    "/api/db/schema",
    createSchemaRoutes({
      sql,
      transports,
      queueNames,
      allowSchemaRedeploy: dependencies.allowSchemaRedeploy ?? false,
      isAdminAllowed,
    }),
  );
  app.route("/api/reconciliation/runs", createReconciliationRoutes({ sql, isAdminAllowed }));
  app.route("/api/admin/routing", createRoutingRoutes({ sql, jobs, router, isAdminAllowed }));
  app.route("/api/admin/queue", createQueueRoutes({ sql, transports, queueNames, router, log }));
  app.route("/api/admin/rehome", createRehomeRoutes({ sql, transports, isAdminAllowed }));
  app.route("/api/poison/redrives", createRedriveRoutes({ sql, jobs, isAdminAllowed, remoteAddress }));
  app.route("/api/poison/messages", createDiscardRoutes({ sql, isAdminAllowed, remoteAddress }));
  return app;
}

function findNoClaimCheck(): never {
  throw new PermanentError("invalid-configuration", "this process has no claim check");
}

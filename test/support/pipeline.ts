import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Logger, pino } from "pino";
import { loadConfig as loadOrchestratorConfig } from "../../services/orchestrator/config.ts";
import { runOrchestrator } from "../../services/orchestrator/run.ts";
import { loadConfig as loadRunnerConfig } from "../../services/task-runner/config.ts";
import { runTaskRunner } from "../../services/task-runner/run.ts";
import type { TaskHandler } from "../../services/task-runner/task-handler.ts";
import { openClaimCheck } from "../../shared/claim-check/open.ts";
import { createJobCatalog } from "../../shared/jobs/catalog.ts";
import type { JobDefinition } from "../../shared/jobs/define-job.ts";
import { createId } from "../../shared/log.ts";
import { retryWhileAway, type Sql } from "../../shared/store/database.ts";
import { submitJob } from "../../shared/store/jobs.ts";
import { sendBatches, type Transports } from "../../shared/transport/send-batches.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import type { TransportName } from "../../shared/transports.ts";

export interface PipelineOptions {
  readonly sql: Sql;
  /** Submits over this one, where the services' own is broken on purpose. */
  readonly clientSql?: Sql;
  readonly transport: Transport;
  readonly jobs: readonly JobDefinition[];
  readonly handlers: readonly TaskHandler[];
  readonly log?: Logger;
  /** Environment variables of both services. */
  readonly environment?: Record<string, string>;
}

/** Orchestrator and task-runner in this process, on a transport and queues of their own. */
export interface Pipeline {
  readonly transports: Transports;
  readonly queues: { readonly jobs: string; readonly stages: string; readonly tasks: string };
  submit(jobType: string, parameters: Record<string, unknown>, totalStages?: number): Promise<string>;
  /** Ends both, within their grace. */
  stop(): Promise<void>;
}

const silent = pino({ level: process.env.TEST_LOG_LEVEL ?? "silent" });

export async function startPipeline(options: PipelineOptions): Promise<Pipeline> {
  const { sql, clientSql = sql, transport, jobs, handlers, log = silent, environment = {} } = options;
  const name = transport.name as TransportName;
  const unique = randomBytes(4).toString("hex");
  const queues = { jobs: `jobs-${unique}`, stages: `stages-${unique}`, tasks: `tasks-${unique}` };
  const ownQueues = [...new Set(jobs.flatMap(({ stages }) => stages.flatMap(({ queue }) => queue ?? [])))];
  await transport.provision([...Object.values(queues), ...ownQueues]);
  const transports: Transports = new Map([[name, { transport, queues }]]);
  const directory = await mkdtemp(join(tmpdir(), "sluice-claim-checks-"));
  const claimCheck = openClaimCheck({ directory });
  const common = {
    DATABASE_URL: "postgres://unused",
    TRANSPORTS: name,
    GRACE_MS: "5000",
    SWEEP_INTERVAL_MS: "300",
    RELAY_IDLE_MS: "20",
    ...environment,
  };
  const stopping = new AbortController();
  const catalog = createJobCatalog(jobs);
  const running = Promise.all([
    runOrchestrator(
      { sql, id: createId("orchestrator"), jobs: catalog, transports, claimCheck, log },
      loadOrchestratorConfig(common),
      stopping.signal,
    ),
    runTaskRunner(
      {
        sql,
        id: createId("runner"),
        handlers: new Map(handlers.map((handler) => [handler.task.type, handler])),
        transports,
        claimCheck,
        log,
      },
      { ...loadRunnerConfig(common), queues: [queues.tasks, ...ownQueues] },
      stopping.signal,
    ),
  ]);
  running.catch(() => {});
  return {
    transports,
    queues,
    async submit(jobType, parameters, totalStages = catalog.get(jobType)?.stages.length ?? 1) {
      const jobId = createHash("sha256").update(JSON.stringify([jobType, parameters, unique])).digest("hex");
      const { batches } = await submitJob(clientSql, "tests", {
        jobId,
        jobType,
        parameters,
        processingPath: name,
        totalStages,
        correlationId: "tests",
      });
      await sendBatches({ db: clientSql, sender: "tests", transports, log }, batches);
      return jobId;
    },
    async stop() {
      stopping.abort();
      await running;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

export interface EndedJob {
  readonly status: string;
  readonly result: Record<string, unknown> | null;
  readonly error: { code: string; message: string } | null;
}

/** Polls until the job has ended. */
export async function whenEnded(sql: Sql, jobId: string, timeoutMs = 60_000): Promise<EndedJob> {
  const giveUpAt = Date.now() + timeoutMs;
  for (;;) {
    const [job] = await retryWhileAway(() =>
      sql<(EndedJob & { ended: boolean })[]>`
      select status, result, error, ended_at is not null as ended from jobs where id = ${jobId}`, AbortSignal.timeout(timeoutMs));
    if (job?.ended) return job;
    if (Date.now() > giveUpAt) {
      const stages =
        await sql`select number, status, planned, sealed, completed, failed, owner, lease_until from stages where job_id = ${jobId}`;
      throw new Error(`job ${jobId} is still ${job?.status} after ${timeoutMs} ms: ${JSON.stringify(stages)}`);
    }
    await sleep(20);
  }
}

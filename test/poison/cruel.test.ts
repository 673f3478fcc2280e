import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { describe, expect, test } from "vitest";
import { loadConfig as loadOrchestratorConfig } from "../../services/orchestrator/config.ts";
import { runOrchestrator } from "../../services/orchestrator/run.ts";
import { loadConfig as loadPoisonConfig } from "../../services/poison-handler/config.ts";
import { runPoisonHandler } from "../../services/poison-handler/run.ts";
import { openClaimCheck } from "../../shared/claim-check/open.ts";
import { createJobCatalog } from "../../shared/jobs/catalog.ts";
import { createId } from "../../shared/log.ts";
import type { Sql } from "../../shared/store/database.ts";
import { findUnendedJobs, findViolations } from "../../shared/store/invariants.ts";
import { submitJob } from "../../shared/store/jobs.ts";
import { defaultQueues } from "../../shared/transport/queues.ts";
import { sendBatches, type Transports } from "../../shared/transport/send-batches.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import { brokers } from "../support/brokers.ts";
import { createTestDatabase } from "../support/database.ts";
import { whenEnded } from "../support/pipeline.ts";
import { type Behaviour, cruelJobs } from "./cruel-job.ts";
import { keepRunning } from "./keep-running.ts";

const silent = pino({ level: process.env.TEST_LOG_LEVEL ?? "silent" });
const jobId = "c".repeat(64);
const companyId = "b".repeat(64);
const many = (count: number, behaviour: Behaviour) => Array.from({ length: count }, () => behaviour);

/** In order: 60 neighbours with every kind of trouble in their midst. */
const alone: readonly Behaviour[] = [
  ...many(20, "complete"),
  ...many(3, "fail-at-first"),
  "die",
  ...many(20, "complete"),
  "hang",
  ...many(4, "fail-for-good"),
  "eat",
  ...many(2, "break-contract"),
  ...many(20, "complete"),
];
/** In messages of five: one with a killer, one with a failure, three in peace. */
const inCompany: readonly Behaviour[] = [
  ...["complete", "complete", "die", "complete", "complete"] as const,
  ...["complete", "fail-for-good", "complete", "complete", "complete"] as const,
  ...many(15, "complete"),
];

/** What is put into the queues by hand, and the verdict that it deserves. */
const garbage = [
  { body: "", verdict: "unreadable" },
  { body: "not JSON {", verdict: "unreadable" },
  { body: "\u0000", verdict: "unreadable" },
  { body: "x".repeat(40_000), verdict: "unreadable" },
  { body: JSON.stringify({ version: 2, jobId }), verdict: "unreadable" },
] as const;
const unknownHints = {
  jobs: { version: 1, jobId: "0".repeat(64), run: 1, kind: "start-job" },
  stages: { version: 1, jobId: "0".repeat(64), run: 1, kind: "stage", stageId: 987_654 },
  tasks: { version: 1, jobId: "0".repeat(64), run: 1, kind: "tasks", stageId: 987_654, taskIds: [987_654_321] },
} as const;

describe.concurrent.each(brokers)("over $name", ({ missing, start }) => {
  test.skipIf(missing)(
    "tasks that kill, hang or starve their process, and garbage in every queue: each has its record and verdict, neighbours live",
    { timeout: 240_000 },
    async () => {
      const [database, broker, directory] = await Promise.all([
        createTestDatabase(),
        start(),
        mkdtemp(join(tmpdir(), "sluice-cruel-")),
      ]);
      const { sql } = database;
      const transport = broker.open();
      const queues = defaultQueues[transport.name];
      await transport.provision(Object.values(queues));
      const transports: Transports = new Map([[transport.name, { transport, queues }]]);
      const claimCheck = openClaimCheck({ directory });
      const environment = {
        DATABASE_URL: database.url,
        CLAIM_CHECK_DIRECTORY: directory,
        CONCURRENCY: "8",
        ...broker.environment,
      };
      const stopping = new AbortController();
      const services = Promise.all([
        runOrchestrator(
          { sql, id: createId("orchestrator"), jobs: createJobCatalog(cruelJobs), transports, claimCheck, log: silent },
          loadOrchestratorConfig({ ...environment, SWEEP_INTERVAL_MS: "300" }),
          stopping.signal,
        ),
        runPoisonHandler(
          {
            sql,
            id: createId("poison"),
            transports,
            queueNames: new Map([[transport.name, Object.values(queues)]]),
            claimCheck,
            log: silent,
          },
          loadPoisonConfig(environment),
          stopping.signal,
        ),
      ]);
      const runners = [1, 2].map(() => keepRunning("test/poison/cruel-runner.ts", environment));
      try {
        for (const queue of ["jobs", "stages", "tasks"] as const) {
          await transport.send(queues[queue], [
            ...garbage.map(({ body }, position) => ({ messageId: `garbage-${position}`, body })),
            { messageId: "unknown", body: JSON.stringify(unknownHints[queue]) },
          ]);
        }
        await submit(sql, transports, transport, jobId, "cruel", alone);
        await submit(sql, transports, transport, companyId, "cruel_in_company", inCompany);
        for (const id of [jobId, companyId]) {
          expect(await whenEnded(sql, id, 200_000)).toMatchObject({ status: "completed_with_errors" });
        }
        await whenJudged(sql, transport, Object.values(queues));

        expect(await outcomesOf(sql, jobId)).toEqual(alone.map(outcomeOf));
        expect(await outcomesOf(sql, companyId)).toEqual(inCompany.map(outcomeOf));
        // By hand into three queues, each once.
        expect(await countVerdicts(sql, null)).toEqual({ unreadable: 3 * garbage.length, orphan: 3 });
        // Every failure has one record; hints that died with their process, beyond the max delivery count, have failed nothing.
        expect(await countVerdicts(sql, jobId)).toEqual({ expected: 6, unhandled: 3 });
        expect(await countVerdicts(sql, companyId)).toEqual({ expected: 1, unhandled: 1 });
        expect(runners.reduce((sum, { deaths }) => sum + deaths, 0)).toBeGreaterThanOrEqual(6);
        expect(await findUnendedJobs(sql)).toEqual([]);
        expect(await findViolations(sql)).toEqual([]);
      } finally {
        await Promise.all(runners.map((runner) => runner.stop()));
        stopping.abort();
        await services;
        await transport.close();
        await broker.stop();
        await database.drop();
        await rm(directory, { recursive: true, force: true });
      }
    },
  );
});

function outcomeOf(behaviour: Behaviour): string {
  if (behaviour === "complete" || behaviour === "fail-at-first") return "completed";
  if (behaviour === "fail-for-good") return "failed: task-failed";
  if (behaviour === "break-contract") return "failed: contract-violation";
  return "failed: interrupted";
}

async function outcomesOf(sql: Sql, job: string): Promise<readonly string[]> {
  const rows = await sql<{ outcome: string }[]>`
    select case tasks.status when 'failed' then 'failed: ' || (tasks.error ->> 'code') else tasks.status end as outcome
    from tasks join stages on stages.id = stage_id where job_id = ${job} order by index`;
  return rows.map(({ outcome }) => outcome);
}

/** What deserved a verdict of one job's records, or of those that name neither: a healthy message that died is of no account. */
async function countVerdicts(sql: Sql, job: string | null): Promise<Record<string, number>> {
  const byHand = sql`coalesce(message_id like 'garbage-%' or message_id = 'unknown', false)`;
  const rows = await sql<{ verdict: string; records: number }[]>`
    select coalesce(verdict, 'none') as verdict, count(*)::int as records from poison_messages
    where ${job === null ? byHand : sql`not ${byHand} and job_id = ${job}`}
      and verdict not in ('recovered', 'alive', 'stale', 'split', 'contradiction')
    group by verdict`;
  return Object.fromEntries(rows.map(({ verdict, records }) => [verdict, records]));
}

async function submit(
  sql: Sql,
  transports: Transports,
  { name }: Transport,
  id: string,
  jobType: string,
  behaviours: readonly Behaviour[],
): Promise<void> {
  const { batches } = await submitJob(sql, "tests", {
    jobId: id,
    jobType,
    parameters: { behaviours },
    processingPath: name,
    totalStages: 1,
    correlationId: "tests",
  });
  await sendBatches({ db: sql, sender: "tests", transports, log: silent }, batches);
}

/** The dust has settled: no queue holds a message or a dead letter, and no record waits for its verdict. */
async function whenJudged(sql: Sql, transport: Transport, queues: readonly string[]): Promise<void> {
  for (const giveUpAt = Date.now() + 60_000;;) {
    const counts = await Promise.all(queues.map((queue) => transport.counts(queue)));
    const [row] = await sql<{ waiting: number }[]>`select count(*)::int as waiting from poison_messages where verdict is null`;
    if (row?.waiting === 0 && counts.every(({ active, deadLettered }) => active + deadLettered === 0)) return;
    if (Date.now() > giveUpAt) throw new Error(`the dust doesn't settle: ${JSON.stringify({ counts, waiting: row?.waiting })}`);
    await sleep(200);
  }
}

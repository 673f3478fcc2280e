import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadConfig } from "../../services/poison-handler/config.ts";
import { runPoisonHandler } from "../../services/poison-handler/run.ts";
import { openClaimCheck } from "../../shared/claim-check/open.ts";
import { createId } from "../../shared/log.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import type { Sql } from "../../shared/store/database.ts";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type Pipeline, startPipeline, whenEnded } from "../support/pipeline.ts";
import { createOperator, type Operator } from "./failed-work.ts";
import { createMendableHandlers, doubling, expectedDoubles, expectedSum, readDoubled } from "./redrive-pipeline.ts";

const log = pino({ level: process.env.TEST_LOG_LEVEL ?? "silent" });

describe("orchestrator, task-runner and poison-handler over BullMQ on PostgreSQL", () => {
  const work = createMendableHandlers();
  let database: TestDatabase;
  let sql: Sql;
  let transport: Transport;
  let pipeline: Pipeline;
  let operator: Operator;
  let directory: string;
  let handling: Promise<void>;
  const stopping = new AbortController();

  beforeAll(async () => {
    database = await createTestDatabase();
    sql = database.sql;
    operator = createOperator(sql);
    transport = openBullmqTransport({ databaseUrl: database.url }, { lockMs: 5_000 });
    pipeline = await startPipeline({ sql, transport, jobs: [doubling], handlers: work.handlers });
    directory = await mkdtemp(join(tmpdir(), "sluice-redrive-"));
    handling = runPoisonHandler(
      {
        sql,
        id: createId("poison"),
        transports: pipeline.transports,
        queueNames: new Map([["bullmq", Object.values(pipeline.queues)]]),
        claimCheck: openClaimCheck({ directory }),
        log,
      },
      loadConfig({ DATABASE_URL: "postgres://unused", TRANSPORTS: "bullmq" }),
      stopping.signal,
    );
  });
  afterAll(async () => {
    stopping.abort();
    await handling;
    await pipeline.stop();
    await transport.close();
    await database.drop();
    await rm(directory, { recursive: true, force: true });
  });

  /** Polls until every failed task of the job has a judged message. */
  async function whenPoisoned(jobId: string, tasks: number): Promise<void> {
    for (const giveUpAt = Date.now() + 60_000; Date.now() < giveUpAt; await sleep(20)) {
      const rows = await sql`
        select from poison_messages where job_id = ${jobId} and status = 'new' and verdict in ('expected', 'unhandled')`;
      if (rows.count === tasks) return;
    }
    throw new Error(`job ${jobId} has not ${tasks} poison messages`);
  }

  async function whenRedriven(redriveId: number): Promise<Record<string, number>> {
    for (const giveUpAt = Date.now() + 60_000; Date.now() < giveUpAt; await sleep(20)) {
      const { ended_at, progress } = await operator.get(redriveId);
      if (ended_at !== null) return progress;
    }
    throw new Error(`redrive ${redriveId} does not end: ${await operator.outcomes(redriveId)}`);
  }

  test("a job that failed completes after its tasks' code was mended and they were redriven", async () => {
    work.breakFor((value) => value % 3 === 0);
    const jobId = await pipeline.submit("doubling", { n: 30 });
    expect(await whenEnded(sql, jobId)).toMatchObject({ status: "failed", error: { message: "10 failed" } });
    await whenPoisoned(jobId, 10);
    work.mend();
    const redriveId = await operator.start({ select: { filter: { job_id: jobId } } });
    expect(await whenRedriven(redriveId)).toMatchObject({ succeeded: 10, "failed-again": 0, refused: 0, skipped: 0 });
    expect(await whenEnded(sql, jobId)).toMatchObject({ status: "completed", error: null, result: { sum: expectedSum(30) } });
    expect(await readDoubled(sql, jobId)).toEqual(expectedDoubles(30));
    expect(await findViolations(sql)).toEqual([]);
  });

  test("a job that completed with errors completes without: the later stage is done anew, on all results", async () => {
    work.breakFor((value) => value === 4 || value === 7);
    const jobId = await pipeline.submit("doubling", { n: 10, tolerated: 2 });
    expect(await whenEnded(sql, jobId)).toMatchObject({
      status: "completed_with_errors",
      result: { sum: expectedSum(10) - 2 * 4 - 2 * 7 },
    });
    await whenPoisoned(jobId, 2);
    work.mend();
    const preview = await operator.preview({ select: { filter: { job_id: jobId } } });
    expect(preview.preview).toMatchObject({ jobs_retried: 1, stages_discarded: 1 });
    await operator.post(`/api/poison/redrives/${preview.redrive_id}/start`, { expected_items: 2 });
    expect(await whenRedriven(preview.redrive_id)).toMatchObject({ succeeded: 2 });
    expect(await whenEnded(sql, jobId)).toMatchObject({ status: "completed", result: { sum: expectedSum(10) } });
    expect(await sql`select number, discarded_at is not null as discarded from stages where job_id = ${jobId} order by id`)
      .toEqual([
        { number: 1, discarded: false },
        { number: 2, discarded: true },
        { number: 2, discarded: false },
      ]);
    expect(await findViolations(sql)).toEqual([]);
  });

  test("with a canary the job runs twice more; what was not mended fails again, with a message of its own", async () => {
    work.breakFor((value) => value < 6);
    const jobId = await pipeline.submit("doubling", { n: 12 });
    await whenEnded(sql, jobId);
    await whenPoisoned(jobId, 6);
    work.breakFor((value) => value === 5);
    const redriveId = await operator.start({ select: { filter: { job_id: jobId } }, canary: 2 });
    expect(await whenRedriven(redriveId)).toMatchObject({ succeeded: 5, "failed-again": 1 });
    expect(await whenEnded(sql, jobId)).toMatchObject({ status: "failed", error: { message: "1 failed" } });
    expect(await sql`select run from jobs where id = ${jobId}`).toEqual([{ run: 3 }]);
    await whenPoisoned(jobId, 1);
    work.mend();
    await whenRedriven(await operator.start({ select: { filter: { job_id: jobId, verdict: "expected" } } }));
    expect(await whenEnded(sql, jobId)).toMatchObject({ status: "completed", result: { sum: expectedSum(12) } });
    expect(await findViolations(sql)).toEqual([]);
  });
});

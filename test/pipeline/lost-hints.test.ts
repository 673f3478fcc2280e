import { pino } from "pino";
import { describe, expect } from "vitest";
import { createJobHandler, createStageHandler } from "../../services/orchestrator/handle-message.ts";
import type { Orchestrator } from "../../services/orchestrator/orchestrator.ts";
import { createSweep } from "../../services/orchestrator/sweep.ts";
import { openClaimCheck } from "../../shared/claim-check/open.ts";
import { createJobCatalog } from "../../shared/jobs/catalog.ts";
import type { Sql } from "../../shared/store/database.ts";
import { submitJob } from "../../shared/store/jobs.ts";
import { sealStage, takeStage } from "../../shared/store/stages.ts";
import type { Delivery } from "../../shared/transport/consume.ts";
import { openMemoryTransport } from "../../shared/transport/memory.ts";
import { defaultQueues } from "../../shared/transport/queues.ts";
import { createMessages, sendBatches } from "../../shared/transport/send-batches.ts";
import type { LockedMessage, Transport } from "../../shared/transport/transport.ts";
import { claimHintBatches, markSent } from "../../shared/store/outbox.ts";
import { test } from "../support/database.ts";
import { jobId, startedStage } from "../support/open-stage.ts";

const log = pino({ level: "silent" });
const queues = defaultQueues.bullmq;

/** An orchestrator that knows no job type: it sweeps and defers. */
function createOrchestrator(sql: Sql): Orchestrator & { transport: Transport } {
  const transport = openMemoryTransport({ lockMs: 60_000 });
  return {
    sql,
    id: "orchestrator",
    jobs: createJobCatalog([]),
    transports: new Map([["bullmq", { transport, queues }]]),
    transport,
    claimCheck: openClaimCheck({ directory: "/tmp/sluice-unused" }),
    log,
    wakeRelay() {},
  };
}

const idOf = (number: number) => number.toString(16).padStart(64, "0");

async function submitMany(orchestrator: Orchestrator, from: number, to: number): Promise<void> {
  for (let number = from; number <= to; number++) {
    const { batches } = await submitJob(orchestrator.sql, "api", {
      jobId: idOf(number),
      jobType: "j",
      parameters: {},
      processingPath: "bullmq",
      totalStages: 1,
      correlationId: "c",
    });
    await sendBatches({ ...orchestrator, db: orchestrator.sql, sender: "api" }, batches);
  }
}

/** Takes messages out of a queue, as a broker that loses them. */
async function lose(transport: Transport, queue: string, count: number): Promise<void> {
  for (const message of await transport.receive(queue, { max: count, signal: AbortSignal.timeout(5_000) })) {
    await message.complete();
  }
}

describe("hints of jobs and stages", () => {
  test("a long backlog is healthy: none of it is sent again, however old", async ({ sql }) => {
    const orchestrator = createOrchestrator(sql);
    await submitMany(orchestrator, 1, 30);
    await sql`update jobs set updated_at = now() - interval '1 day'`;
    const { sweepOnce } = createSweep(orchestrator, { intervalMs: 1, graceMs: 0 });
    for (let round = 0; round < 3; round++) await sweepOnce();
    expect(await sql`select from outbox`).toHaveLength(30);
  });

  test("as many are sent again as are missing, oldest first, once that was seen twice", async ({ sql }) => {
    const orchestrator = createOrchestrator(sql);
    await submitMany(orchestrator, 1, 30);
    await lose(orchestrator.transport, queues.jobs, 7); // the oldest, as in any queue
    await sql`update jobs set updated_at = now() - interval '1 day' + ('x' || right(id, 4))::bit(16)::int * interval '1 s'`;
    const { sweepOnce } = createSweep(orchestrator, { intervalMs: 1, graceMs: 0 });
    await sweepOnce();
    expect(await sql`select from outbox`).toHaveLength(30);
    await sweepOnce();
    const again = await sql`select job_id from outbox where status = 'pending_queue' order by job_id`;
    expect(again).toEqual([1, 2, 3, 4, 5, 6, 7].map((number) => ({ job_id: idOf(number) })));
    for (let round = 0; round < 3; round++) await sweepOnce();
    expect(await sql`select from outbox`).toHaveLength(37);
  });

  test("messages of jobs that are being planned are not taken for those of jobs that wait", async ({ sql }) => {
    const orchestrator = createOrchestrator(sql);
    await submitMany(orchestrator, 1, 2);
    await startedStage(sql); // its start message is still locked, while its first stage is planned
    const [start] = await sql<{ batchId: string }[]>`select batch_id as "batchId" from outbox where job_id = ${jobId}`;
    await sql`update outbox set status = 'queued', locked_by = null, locked_until = null, sent_at = now()`;
    await orchestrator.transport.send(queues.jobs, [{ messageId: start?.batchId ?? "", body: "{}" }]);
    await lose(orchestrator.transport, queues.jobs, 1);
    await sql`update jobs set updated_at = now() - interval '1 day' where status = 'queued'`;
    const { sweepOnce } = createSweep(orchestrator, { intervalMs: 1, graceMs: 0 });
    for (let round = 0; round < 2; round++) await sweepOnce();
    expect(await sql`select from outbox where status = 'pending_queue'`).toHaveLength(1);
  });

  test("so it is with stages that wait to be reduced", async ({ sql }) => {
    const orchestrator = createOrchestrator(sql);
    const send = async () => {
      const batches = await claimHintBatches(sql, "relay", "bullmq", 100);
      await sendBatches({ ...orchestrator, db: sql, sender: "relay" }, batches);
    };
    for (let number = 1; number <= 12; number++) {
      const stage = await startedStage(sql, { jobId: idOf(number) });
      await sql`update outbox set status = 'queued', sent_at = now() where kind = 'start-job'`;
      expect(await sealStage(sql, stage, 0)).toHaveLength(1);
    }
    await sql`update outbox set locked_by = null, locked_until = null`;
    await send();
    expect(await orchestrator.transport.counts(queues.stages)).toMatchObject({ active: 12 });
    await sql`update stages set hinted_at = now() - interval '1 day'`;
    const { sweepOnce } = createSweep(orchestrator, { intervalMs: 1, graceMs: 0 });
    for (let round = 0; round < 3; round++) await sweepOnce();
    expect(await sql`select from events where kind = 'stage-hinted-again'`).toHaveLength(0);

    await lose(orchestrator.transport, queues.stages, 5);
    for (let round = 0; round < 3; round++) await sweepOnce();
    expect(await sql`select from events where kind = 'stage-hinted-again'`).toHaveLength(5);
  });
});

/** A message as the relay would send it next, once it is due; its delivery goes to the handler alone. */
async function nextMessage(sql: Sql): Promise<LockedMessage> {
  await sql`update outbox set not_before = now() where status = 'pending_queue'`;
  await sql`update outbox set locked_by = null, locked_until = null`;
  const [batch] = await claimHintBatches(sql, "relay", "bullmq", 1);
  const [message] = batch ? createMessages(batch) : [];
  if (!batch || !message) throw new Error("nothing is to be sent");
  await markSent(sql, "relay", [batch.id]);
  const settled = async () => {};
  return {
    ...message,
    identity: message.messageId,
    deliveryCount: 1,
    renewLock: settled,
    complete: settled,
    abandon: settled,
    moveToDeadLetters: settled,
  };
}
const delivery: Delivery = { signal: new AbortController().signal, log, identify() {}, phase() {} };

describe("a job type that no process here knows", () => {
  test("waits for one that does: each hint that finds none puts it off for twice as long, and the sixth fails the job", async ({ sql }) => {
    const orchestrator = createOrchestrator(sql);
    await submitMany(orchestrator, 1, 1);
    await sql`update jobs set start_sends = 40`; // re-sends of a backlog are no tries
    await sql`update outbox set status = 'pending_queue'`;
    const handle = createJobHandler(orchestrator);
    for (const pauseS of [20, 40, 80, 160, 320]) {
      const message = await nextMessage(sql);
      await handle(message, delivery);
      await handle(message, delivery); // a second copy of the hint is no second try
      expect(await sql`select status, deferrals from jobs`).toMatchObject([{ status: "queued" }]);
      const [hint] = await sql`
        select extract(epoch from not_before - now())::float as pause from outbox where status = 'pending_queue'`;
      expect(hint?.pause).toBeGreaterThan(pauseS - 5);
      expect(hint?.pause).toBeLessThanOrEqual(pauseS);
    }
    await handle(await nextMessage(sql), delivery);
    expect(await sql`select status, error ->> 'code' as code from jobs`).toEqual([{ status: "failed", code: "unknown-type" }]);
    expect(await sql`select from events where kind = 'job-deferred'`).toHaveLength(6);
  });

  test("is reduced by one that does, if it comes in time", async ({ sql }) => {
    const orchestrator = createOrchestrator(sql);
    const stage = await startedStage(sql);
    await sql`update outbox set status = 'queued', sent_at = now()`;
    await sealStage(sql, stage, 0);
    await sql`update stages set sends = 40`;
    const handle = createStageHandler(orchestrator);
    for (let deferrals = 1; deferrals <= 5; deferrals++) {
      await handle(await nextMessage(sql), delivery);
      expect(await sql`select status, deferrals from stages`).toEqual([{ status: "reducing", deferrals }]);
    }
    expect(await takeStage(sql, "knows it", stage.stageId, stage.run)).toMatchObject({ status: "reducing" });
    await handle(await nextMessage(sql), delivery);
    expect(await sql`select deferrals from stages`).toEqual([{ deferrals: 5 }]);
    expect(await sql`select status from jobs`).toEqual([{ status: "processing" }]);
  });
});

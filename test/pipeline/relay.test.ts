import { pino } from "pino";
import { expect } from "vitest";
import { startRelay } from "../../services/orchestrator/relay.ts";
import { openClaimCheck } from "../../shared/claim-check/open.ts";
import { createJobCatalog } from "../../shared/jobs/catalog.ts";
import { insertTasks, sealStage } from "../../shared/store/stages.ts";
import { openMemoryTransport } from "../../shared/transport/memory.ts";
import { defaultQueues } from "../../shared/transport/queues.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import { test } from "../support/database.ts";
import { startedStage } from "../support/open-stage.ts";

test("a queue that nothing can be sent to does not slow the others down", async ({ sql }) => {
  const batches = 60;
  for (const [position, queue] of ["bad-queue", "good-queue"].entries()) {
    const stage = await startedStage(sql, { jobId: String(position).repeat(64), queue });
    await insertTasks(sql, stage, { startIndex: 0, parameters: Array(batches * 100).fill({}), tasksPerMessage: 1 });
    expect(await sealStage(sql, stage, batches * 100)).toEqual([]);
  }
  await sql`delete from outbox where kind = 'start-job'`;
  const memory = openMemoryTransport();
  let refused = 0;
  const transport: Transport = {
    ...memory,
    async send(queue, messages) {
      if (queue === "bad-queue") {
        refused += 1;
        throw new Error("no such queue");
      }
      await memory.send(queue, messages);
    },
  };
  const stopping = new AbortController();
  const relay = startRelay({
    sql,
    id: "orchestrator",
    jobs: createJobCatalog([]),
    transports: new Map([["bullmq", { transport, queues: defaultQueues.bullmq }]]),
    claimCheck: openClaimCheck({ directory: "/tmp/sluice-unused" }),
    log: pino({ level: "silent" }),
  }, {
    windows: { bullmq: 100_000, service_bus: 1, storage_queue: 1 },
    idleMs: 5,
    signal: stopping.signal,
  });
  // A pause after each round with a refusal would come to more than half a minute.
  await expect.poll(() => memory.counts("good-queue"), { timeout: 15_000 }).toMatchObject({ active: batches * 100 });
  stopping.abort();
  await relay.done;
  expect(refused).toBeGreaterThan(10);
  expect(await sql`select distinct status from outbox where queue = 'bad-queue'`).toEqual([{ status: "pending_queue" }]);
  await memory.close();
});

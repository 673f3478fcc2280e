import { pino } from "pino";
import { createJudge } from "../../services/poison-handler/judge.ts";
import { executeRun } from "../../services/poison-handler/reconcile/execute.ts";
import { ReconciliationSummary, type RunMode } from "../../shared/contracts/reconciliation.ts";
import { parse } from "../../shared/contracts/parse.ts";
import type { Sql } from "../../shared/store/database.ts";
import {
  completeReconciliationRun,
  listReconciliationFindings,
  requestReconciliation,
  takeReconciliationRun,
} from "../../shared/store/reconciliation.ts";
import { openMemoryTransport } from "../../shared/transport/memory.ts";
import { defaultQueues } from "../../shared/transport/queues.ts";
import type { Transports } from "../../shared/transport/send-batches.ts";
import type { TransportName } from "../../shared/transports.ts";
import { type DamagedSystem, ownQueues } from "./damages.ts";

const log = pino({ level: process.env.TEST_LOG_LEVEL ?? "silent" });

/** Two brokers in memory, one of which can be away. */
export function openDamagedSystem(sql: Sql): DamagedSystem & { close(): Promise<void> } {
  const broker = openMemoryTransport({ maxDeliveryCount: 1_000_000 });
  const away = openMemoryTransport({ name: "storage_queue" });
  const awayBroker = { isAway: false };
  const transports: Transports = new Map([
    ["bullmq", { transport: broker, queues: defaultQueues.bullmq }],
    ["storage_queue", {
      transport: {
        ...away,
        async counts(queue: string) {
          if (awayBroker.isAway) throw new Error("connection refused");
          return await away.counts(queue);
        },
      },
      queues: defaultQueues.storage_queue,
    }],
  ]);
  return {
    sql,
    transports,
    broker,
    awayBroker,
    async close() {
      await broker.close();
      await away.close();
    },
  };
}

/** Requests a run and executes it, as a poison-handler does. */
export async function reconcile(
  { sql, transports }: DamagedSystem,
  mode: RunMode,
): Promise<{ readonly found: readonly string[]; readonly repaired: readonly string[]; readonly summary: ReconciliationSummary }> {
  const id = "poison-1";
  await requestReconciliation(sql, { mode, requestedBy: "command" });
  const run = await takeReconciliationRun(sql, id);
  if (!run) throw new Error("no run was requested");
  const queueNames = new Map<TransportName, readonly string[]>([
    ["bullmq", [...Object.values(defaultQueues.bullmq), ...ownQueues]],
    ["storage_queue", Object.values(defaultQueues.storage_queue)],
  ]);
  const graceMs = 1_000;
  const judge = createJudge({ sql, id, graceMs, log });
  const summary = await executeRun(
    { sql, id, transports, queueNames, poisonQueue: undefined, graceMs, judge, log, pauseMs: 50 },
    run,
    new AbortController().signal,
  );
  await completeReconciliationRun(sql, id, run.runId, summary);
  const { rows } = await listReconciliationFindings(sql, run.runId, { limit: 10_000 });
  const nameOf = ({ kind, subject_id }: { kind: string; subject_id: string }) => `${kind} ${subject_id}`;
  return {
    found: rows.map(nameOf).sort(),
    repaired: rows.filter(({ repaired_at }) => repaired_at !== null).map(nameOf).sort(),
    summary: parse(ReconciliationSummary, summary),
  };
}

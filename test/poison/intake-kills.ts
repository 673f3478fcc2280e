import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import type { Sql } from "../../shared/store/database.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { claimTasks, recordAttempts } from "../../shared/store/tasks.ts";
import { defaultQueues } from "../../shared/transport/queues.ts";
import type { OutgoingMessage, Transport } from "../../shared/transport/transport.ts";
import type { Broker } from "../support/brokers.ts";
import { createTestDatabase } from "../support/database.ts";
import { type RoleProcess, startRole } from "../support/processes.ts";
import { createRandom } from "../support/random.ts";
import { sendStage } from "./dead-letters.ts";

/** What became of killing poison-handlers while they took dead letters in. */
export interface IntakeReport {
  readonly deadLetters: number;
  readonly kills: number;
  /** Kills that struck a handler which still had some to take in. */
  readonly atWork: number;
}

const retry = { maxFailures: 1, backoffMs: 0, maxBackoffMs: 0 };
/** Shares of the dead letters, in tenths; what its row deserves, and what it says. */
const kinds = ["failed", "failed", "failed", "completed", "running", "waiting", "waiting", "doubled", "damaged", "old"] as const;
type Kind = typeof kinds[number];

/**
 * Kills both of two poison-handlers at random, so many times, while they take in dead letters: of rows that failed, completed, run
 * and wait, doubled ones, damaged ones, and ones of an older run. Each has its record and its verdict once, and no healthy row has
 * changed.
 */
export async function killWhileTakingIn(
  broker: Broker,
  letters: number,
  { seed, kills }: { seed: number; kills: number },
): Promise<IntakeReport> {
  const random = createRandom(seed);
  const database = await createTestDatabase();
  const { sql } = database;
  const transport = broker.open();
  const queues = defaultQueues[transport.name];
  await transport.provision(Object.values(queues));
  const environment = {
    DATABASE_URL: database.url,
    CLAIM_CHECK_DIRECTORY: "/tmp/sluice-intake-claim-checks",
    CONCURRENCY: "4", // so that it takes a while
    ...broker.environment,
  };
  const handlers: (RoleProcess | undefined)[] = [];
  try {
    const { taskIds, messages } = await sendStage(sql, { tasks: letters, processingPath: transport.name });
    const kindOf = (index: number): Kind => kinds[index % kinds.length] ?? "failed";
    const ofKind = (...wanted: Kind[]) => taskIds.filter((_, index) => wanted.includes(kindOf(index)));
    await endAs(sql, ofKind("failed"), "failed");
    await endAs(sql, ofKind("completed", "damaged", "old"), "completed");
    await claimTasks(sql, "runner", ofKind("running").map((taskId) => ({ taskId, claimId: `runner:${taskId}` })));
    await sql`update runners set lease_until = now() + interval '1 hour'`;
    await sql`update stages set timeout_ms = 3600000`; // what runs goes on running, however long this takes
    const statuses = await readStatuses(sql);

    const dead = messages.map((message, index) => disfigure(message, kindOf(index)));
    await letDie(transport, queues.tasks, dead);
    await letDie(transport, queues.tasks, dead.filter((_, index) => kindOf(index) === "doubled"));

    let struck = 0;
    let atWork = 0;
    handlers.push(...await Promise.all([startRole("poison-handler", environment), startRole("poison-handler", environment)]));
    const restarts = new Set<Promise<void>>();
    for (const giveUpAt = Date.now() + 300_000; await countLetters(transport, queues.tasks) > 0;) {
      if (Date.now() > giveUpAt) throw new Error(`${await countLetters(transport, queues.tasks)} dead letters are left`);
      await sleep(random.integer(200));
      const index = random.integer(handlers.length);
      const victim = handlers[index];
      if (struck === kills || !victim) continue;
      victim.signal("SIGSTOP");
      const left = await countLetters(transport, queues.tasks);
      handlers[index] = undefined;
      await victim.end("SIGKILL");
      struck += 1;
      if (left > 0) atWork += 1;
      const restart = startRole("poison-handler", environment).then((started) => {
        handlers[index] = started;
        restarts.delete(restart);
      });
      restarts.add(restart);
    }
    await Promise.all(restarts);
    await whenJudged(sql);

    const share = letters / kinds.length;
    const verdicts = await sql<{ verdict: string; n: number }[]>`
      select verdict, count(*)::int as n from poison_messages group by verdict order by verdict`;
    expect(Object.fromEntries(verdicts.map(({ verdict, n }) => [verdict, n]))).toEqual({
      alive: share,
      contradiction: share,
      expected: 3 * share,
      recovered: 3 * share, // the first of each pair among them
      stale: 2 * share, // the second of each pair, and what is of an older run
      unreadable: share,
    });
    // Each that waits was hinted again once, and is counted once; nothing else has changed.
    const hinted = 3 * share;
    expect(await sql`select count(*)::int as n from outbox where status = 'pending_queue' and kind = 'tasks'`).toEqual([{
      n: hinted,
    }]);
    expect(await sql`select count(*)::int as n, sum(poisonings)::int as sum from tasks where poisonings > 0`).toEqual([
      { n: hinted, sum: hinted },
    ]);
    expect(await sql`select sum(messages)::int as n from poison_groups`).toEqual([{ n: 11 * share }]);
    expect(await readStatuses(sql)).toEqual(statuses);
    expect(await findViolations(sql)).toEqual([]);
    return { deadLetters: letters + share, kills: struck, atWork };
  } finally {
    await Promise.all(handlers.map((handler) => handler?.end("SIGKILL")));
    await transport.close();
    await database.drop();
  }
}

function disfigure(message: OutgoingMessage, kind: Kind): OutgoingMessage {
  if (kind === "damaged") return { messageId: `damaged-${message.messageId}`, body: message.body.slice(0, -1) };
  if (kind !== "old") return message;
  return { ...message, body: JSON.stringify({ ...JSON.parse(message.body), run: 99 }) };
}

async function endAs(sql: Sql, taskIds: readonly number[], outcome: "completed" | "failed"): Promise<void> {
  const claims = taskIds.map((taskId) => ({ taskId, claimId: `runner:${taskId}` }));
  await claimTasks(sql, "runner", claims);
  await recordAttempts(
    sql,
    "runner",
    claims.map((claim) =>
      outcome === "completed"
        ? { ...claim, outcome, result: {} }
        : { ...claim, outcome, error: { code: "error", message: "no" }, permanent: true, retry }
    ),
  );
}

/** Sends messages and dead-letters them, as a consumer does that can do nothing with them. */
export async function letDie(transport: Transport, queue: string, messages: readonly OutgoingMessage[]): Promise<void> {
  await transport.send(queue, messages);
  const signal = AbortSignal.timeout(120_000);
  for (let left = messages.length; left > 0;) {
    const received = await transport.receive(queue, { max: 32, signal });
    signal.throwIfAborted();
    await Promise.all(received.map((message) => message.moveToDeadLetters("task-failed", "error: no")));
    left -= received.length;
  }
}

async function whenJudged(sql: Sql): Promise<void> {
  for (const giveUpAt = Date.now() + 20_000;;) {
    const left = await sql`select from poison_messages where verdict is null`;
    if (left.count === 0) return;
    if (Date.now() > giveUpAt) throw new Error(`${left.count} records are not judged`);
    await sleep(100);
  }
}

async function countLetters(transport: Transport, queue: string): Promise<number> {
  const { deadLettered } = await transport.counts(queue);
  return deadLettered;
}

async function readStatuses(sql: Sql): Promise<readonly unknown[]> {
  return await sql`select id, status, attempt, claim_id from tasks order by id`;
}

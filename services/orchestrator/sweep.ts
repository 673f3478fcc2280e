import { runRounds } from "../../shared/rounds.ts";
import { isDatabaseAway } from "../../shared/store/database.ts";
import { moveStrayBatches } from "../../shared/store/rehome.ts";
import { runnerLeaseMs } from "../../shared/store/runners.ts";
import { openBarrier } from "../../shared/store/stages.ts";
import {
  findOverdueStages,
  findStoppingJobs,
  findStuckStages,
  hintJobsAgain,
  hintStagesAgain,
  hintTasksAgain,
  interruptStages,
  readExpectedHints,
  readExpectedMessages,
  readUptimeMs,
  removeDeadRunners,
  takeSweepLease,
} from "../../shared/store/sweep.ts";
import { expireTasks, interruptTasks, sliceStage } from "../../shared/store/tasks.ts";
import { withTimeLimit } from "../../shared/time-limit.ts";
import { queueName, sendFirst } from "../../shared/transport/send-batches.ts";
import type { TransportName } from "../../shared/transports.ts";
import { closeJob, closeTasks } from "./close-job.ts";
import type { Orchestrator } from "./orchestrator.ts";

export interface SweepOptions {
  readonly intervalMs: number;
  /** An attempt may outlive its time-out by so much before it counts as hung. */
  readonly graceMs: number;
}

/** How the sweep finds out that hints of one kind were lost, and sends them again. */
interface Hinting {
  /** Per queue, the fewest messages that ought to be in it. */
  readExpected(transport: TransportName): Promise<Iterable<readonly [queue: string, messages: number]>>;
  /** Sends at most so many; returns how many it sent. */
  hintAgain(transport: TransportName, queue: string, most: number): Promise<number>;
}

/** A broker that takes longer to count must not hold up what comes next. */
const countMs = 2_000;
/** Findings at a time: each repair is one statement of bounded size. */
const limit = 1_000;

/** Finds and repairs what crashes, lost messages and dead brokers left; every finding is an event. */
export interface Sweep {
  /** One round, unless another process is at it. */
  sweepOnce(): Promise<void>;
  /** Rounds until the signal is aborted. */
  run(signal: AbortSignal): Promise<void>;
}

export function createSweep(orchestrator: Orchestrator, { intervalMs, graceMs }: SweepOptions): Sweep {
  const { sql, id, transports, log } = orchestrator;
  const sender = { db: sql, sender: id, transports, log };
  let blindUntil = 0;

  const steps: readonly [name: string, step: () => Promise<void>][] = [
    ["expired leases", async () => {
      // While the server or this process' way to it was gone, nobody could renew: such leases say nothing.
      if (performance.now() < blindUntil || await readUptimeMs(sql) < runnerLeaseMs) return;
      for (let found = limit; found === limit;) {
        const { recorded, batches } = await interruptTasks(sql, id, { graceMs, limit });
        found = recorded.size;
        if (found > 0) log.warn({ tasks: found }, "attempts interrupted");
        await sendFirst(sender, batches);
      }
      const { freed, exhausted } = await interruptStages(sql);
      if (freed > 0) log.warn({ stages: freed }, "stages interrupted");
      for (const jobId of exhausted) {
        const error = { code: "interrupted", message: "planning or reducing a stage failed or was interrupted too often" };
        await closeJob(orchestrator, jobId, { as: "failed", error });
      }
      await removeDeadRunners(sql);
    }],
    ["deadlines", async () => {
      for (const stage of await findOverdueStages(sql)) {
        for (const slice of sliceStage(stage)) {
          const { recorded, batches } = await expireTasks(sql, id, slice);
          if (recorded.size > 0) {
            log.warn({ stageId: stage.stageId, tasks: recorded.size }, "tasks failed at their stage's deadline");
          }
          await sendFirst(sender, batches);
        }
      }
    }],
    ["stuck stages", async () => {
      for (const stageId of await findStuckStages(sql)) await sendFirst(sender, await openBarrier(sql, id, stageId));
    }],
    ["batches of rehomed jobs", async () => {
      const batches = await moveStrayBatches(sql);
      if (batches > 0) log.warn({ batches }, "stray batches moved");
    }],
    ["stopping jobs", async () => {
      for (const jobId of await findStoppingJobs(sql)) await closeTasks(orchestrator, jobId);
    }],
    [
      "lost hints of jobs and stages",
      createHinting({
        readExpected: async (transport) => Object.entries(await readExpectedHints(sql, transport)),
        hintAgain: (transport, queue, most) =>
          queue === "jobs" ? hintJobsAgain(sql, transport, most) : hintStagesAgain(sql, transport, most),
      }),
    ],
    [
      "lost hints of tasks",
      createHinting({
        readExpected: (transport) => readExpectedMessages(sql, transport),
        hintAgain: (transport, queue, most) => hintTasksAgain(sql, transport, queue, most),
      }),
    ],
  ];

  /** Sends hints again of queues that hold fewer messages than they should; a backlog that is only long is healthy. */
  function createHinting({ readExpected, hintAgain }: Hinting): () => Promise<void> {
    /** Queues that held too few messages in the round before: what is called lost was read twice. */
    let short = new Set<string>();
    return async () => {
      const found = new Set<string>();
      for (const [name, { transport, queues }] of transports) {
        for (const [queue, expected] of await readExpected(name)) {
          if (expected === 0) continue;
          const key = `${name}/${queue}`;
          // A broker that doesn't answer is down: re-sending would add to its troubles.
          const counts = await withTimeLimit(transport.counts(queueName(queues, queue)), countMs).catch((error: unknown) => {
            log.warn({ err: error, transport: name, queue }, "can't count messages");
          });
          if (!counts || counts.active >= expected) continue;
          found.add(key);
          if (!short.has(key)) continue;
          const hinted = await hintAgain(name, queue, Math.min(limit, expected - counts.active));
          if (hinted > 0) log.warn({ transport: name, queue, expected, active: counts.active, hinted }, "hinted again");
        }
      }
      short = found;
    };
  }

  async function sweepOnce(): Promise<void> {
    for (const [name, step] of steps) {
      if (!await takeSweepLease(sql, id)) return;
      try {
        await step();
      } catch (error) {
        if (isDatabaseAway(error)) blindUntil = performance.now() + runnerLeaseMs;
        log.error({ err: error, step: name }, "sweep step failed");
      }
    }
    orchestrator.wakeRelay();
  }

  return {
    sweepOnce,
    async run(signal) {
      await runRounds(sweepOnce, {
        intervalMs,
        signal,
        onError(error) {
          if (isDatabaseAway(error)) blindUntil = performance.now() + runnerLeaseMs;
          log.warn({ err: error }, "sweep failed");
        },
      });
    },
  };
}

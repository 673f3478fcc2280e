import type { QueueBalance } from "../../../shared/contracts/reconciliation.ts";
import {
  countOldHints,
  countSentMessages,
  findOldStageHints,
  findOldStartHints,
  readEndedTasks,
} from "../../../shared/store/damage/outbox-rows.ts";
import type { FoundRows } from "../../../shared/store/damage/found.ts";
import type { Sql } from "../../../shared/store/database.ts";
import { listBusyPoisonQueues } from "../../../shared/store/damage/poison-rows.ts";
import {
  hintJobsAgain,
  hintStagesAgain,
  hintTasksAgain,
  readExpectedHints,
  readExpectedMessages,
} from "../../../shared/store/sweep.ts";
import { withTimeLimit } from "../../../shared/time-limit.ts";
import { queueName } from "../../../shared/transport/send-batches.ts";
import type { QueueCounts } from "../../../shared/transport/transport.ts";
import type { TransportName } from "../../../shared/transports.ts";
import {
  type Check,
  type Finding,
  type Found,
  found,
  lateMs,
  maxListed,
  type Reconciliation,
  sliceSize,
  toFinding,
  together,
} from "./check.ts";

/** A broker that takes longer is away. */
const countMs = 2_000;
/** Rows and broker may differ by this share of what is expected, and by twice what ended while they were read. */
const toleratedShare = 0.02;
/** Copies, and messages of work that is over, are no damage; so many beyond twice what is expected are worth a look. */
const surplus = 1_000;

/** One reading of a queue: rows before and after the broker. */
interface Reading {
  readonly transport: TransportName;
  readonly queue: string;
  /** By its name in the outbox; undefined where dead letters are forwarded to. */
  readonly outboxQueue: string | undefined;
  readonly expected: readonly [number, number] | null;
  readonly counts: QueueCounts | null;
  readonly tolerance: number | null;
  readonly error: string | null;
}

/** The check of the brokers, and the balance it saw last. */
export interface BrokerCheck extends Check {
  readonly balances: () => readonly QueueBalance[];
}

/** Rows against brokers: messages sent and unfinished against what each queue holds, read twice; and what lies among the dead letters. */
export function createBrokerCheck(): BrokerCheck {
  let balances: readonly QueueBalance[] = [];
  const lacking = new Map<string, number>();
  return {
    name: "rows against brokers",
    isPatient: true,
    balances: () => balances,
    async begin(reconciliation) {
      const first = await readQueues(reconciliation);
      return async () => {
        const second = await readQueues(reconciliation);
        balances = second.map(toBalance);
        return await compare(reconciliation, new Map(first.map((reading) => [keyOf(reading), reading])), second, lacking);
      };
    },
    async mend({ sql }, findings) {
      const mended = new Set<Finding>();
      for (const finding of findings) {
        const { kind, transport, queue } = finding;
        if (kind !== "lost-hint" || transport === null || queue === null) continue;
        const key = `${transport}/${queue}`;
        for (let left = lacking.get(key) ?? 0; left > 0;) {
          const most = Math.min(sliceSize, left);
          const hinted = queue === "jobs"
            ? await hintJobsAgain(sql, transport, most)
            : queue === "stages"
            ? await hintStagesAgain(sql, transport, most)
            : await hintTasksAgain(sql, transport, queue, most);
          left = hinted === 0 ? 0 : left - hinted;
          lacking.set(key, left);
        }
        const options = { transport, lateMs, limit: maxListed };
        const old = queue === "jobs"
          ? (await findOldStartHints(sql, options)).rows.map(({ jobId }) => jobId)
          : queue === "stages"
          ? (await findOldStageHints(sql, options)).rows.map(({ stageId }) => String(stageId))
          : (await countOldHints(sql, { ...options, queue })).rows.map(({ stageId }) => String(stageId));
        if (!old.includes(finding.subject_id)) mended.add(finding);
      }
      return mended;
    },
  };
}

async function readQueues({ sql, transports, queueNames, poisonQueue, log }: Reconciliation): Promise<readonly Reading[]> {
  const readings = await Promise.all([...transports].map(async ([name, { transport, queues }]) => {
    const outboxQueues = new Map<string, string>();
    const readRows = async () =>
      [
        new Map([...Object.entries(await readExpectedHints(sql, name)), ...await readExpectedMessages(sql, name)]),
        await readEndedTasks(sql, name),
      ] as const;
    const before = await readRows();
    for (const queue of ["jobs", "stages", "tasks", ...before[0].keys()]) outboxQueues.set(queueName(queues, queue), queue);
    const names = [...new Set([...queueNames.get(name) ?? [], ...outboxQueues.keys()])];
    const counted = await Promise.all(names.map(async (queue) => {
      try {
        return { counts: await withTimeLimit(transport.counts(queue), countMs), error: null };
      } catch (error) {
        log.warn({ err: error, transport: name, queue }, "can't count messages");
        return { counts: null, error: error instanceof Error ? error.message : String(error) };
      }
    }));
    const after = await readRows();
    const own = names.map((queue, position): Reading => {
      const outboxQueue = outboxQueues.get(queue) ?? queue;
      const [expected, ended] = [0, 1].map((which) => [before, after].map((read) => read[which]?.get(outboxQueue) ?? 0));
      const { counts, error } = counted[position] ?? { counts: null, error: "not counted" };
      const [first = 0, last = 0] = expected ?? [];
      const [endedBefore = 0, endedAfter = 0] = ended ?? [];
      const moved = Math.abs(endedAfter - endedBefore) + Math.abs(last - first);
      const most = Math.max(first, last);
      return {
        transport: name,
        queue,
        outboxQueue,
        expected: [Math.min(first, last), most],
        counts,
        tolerance: Math.floor(toleratedShare * most) + 2 * moved,
        error,
      };
    });
    if (name !== "service_bus" || poisonQueue === undefined) return own;
    // All that lies there is dead letters, and some of those have died again.
    const counts = await withTimeLimit(transport.counts(poisonQueue), countMs).catch(() => null);
    const dead = counts && { active: 0, deadLettered: counts.active + counts.deadLettered };
    return [
      ...own,
      { transport: name, queue: poisonQueue, outboxQueue: undefined, expected: null, counts: dead, tolerance: null, error: null },
    ];
  }));
  return readings.flat();
}

async function compare(
  reconciliation: Reconciliation,
  first: ReadonlyMap<string, Reading>,
  second: readonly Reading[],
  lacking: Map<string, number>,
): Promise<Found> {
  const { sql, pauseMs } = reconciliation;
  const parts: Found[] = [];
  for (const reading of second) {
    const earlier = first.get(keyOf(reading));
    if (!earlier) continue;
    const { transport, queue, outboxQueue } = reading;
    const place = { subject_type: "queue", subject_id: `${transport}/${queue}`, transport, queue } as const;
    if (!reading.counts || !earlier.counts) {
      if (reading.counts || earlier.counts) continue;
      parts.push(one(toFinding("broker-away", {
        ...place,
        severity: "warning",
        message: `queue ${queue} on ${transport} could not be counted, twice: ${reading.error ?? "its broker does not answer"}`,
        suggested_action: "see that the broker runs and can be reached; its queues were not compared with the rows",
      })));
      continue;
    }
    if (outboxQueue !== undefined && Math.min(shortOf(earlier), shortOf(reading)) > 0) {
      parts.push(await findLostHints(sql, reading, outboxQueue, lacking));
    }
    if (isDeep(earlier) && isDeep(reading) && reading.counts.active >= earlier.counts.active) {
      parts.push(one(toFinding("queue-deeper-than-rows", {
        ...place,
        severity: "info",
        message:
          `queue ${queue} on ${transport} holds ${reading.counts.active} messages, and does not get shorter; the rows tell of ${
            reading.expected?.[1]
          }`,
        suggested_action: "see that runners take from it: messages of work that is over, and copies, end when they are received",
      })));
    }
    const { deadLettered } = reading.counts;
    if (deadLettered > 0 && deadLettered >= earlier.counts.deadLettered && earlier.counts.deadLettered > 0) {
      // One that is settled just now was recorded a moment ago; one that has just come was not there at the first reading.
      const busy = await listBusyPoisonQueues(sql, transport, 2 * pauseMs + countMs);
      if (outboxQueue === undefined ? busy.size > 0 : busy.has(queue) || busy.has(outboxQueue)) continue;
      parts.push(one(toFinding("poison-backlog", {
        ...place,
        severity: "warning",
        message: `${deadLettered} dead letters of ${queue} on ${transport} lie there, and none was taken in for a while`,
        suggested_action: `see that a poison-handler runs which serves ${transport}`,
      })));
    }
  }
  return together(parts);
}

/** Hints so old that the sweep would send them again, of a queue that holds fewer messages than it should. */
async function findLostHints(sql: Sql, reading: Reading, outboxQueue: string, lacking: Map<string, number>): Promise<Found> {
  const { transport, queue, counts, expected, tolerance } = reading;
  const active = counts?.active ?? 0;
  const key = `${transport}/${outboxQueue}`;
  const holds = `queue ${queue} on ${transport} holds ${active} messages of at least ${expected?.[0]} (${tolerance} tolerated)`;
  const lost = {
    ...{ severity: "warning", transport, queue: outboxQueue, repairable: true } as const,
    suggested_action: "apply: hints as many again as the queue lacks, as the sweep does; see that an orchestrator runs",
  };
  // A queue says how many are missing, not which: the oldest, as a rule.
  const missing = (expected?.[0] ?? 0) - active;
  const options = { transport, lateMs, limit: Math.min(maxListed, missing) };
  const atMost = <Row>({ rows, total }: FoundRows<Row>): FoundRows<Row> => ({ rows, total: Math.min(total, missing) });
  lacking.set(key, missing);
  if (outboxQueue === "jobs") {
    return found("lost-hint", atMost(await findOldStartHints(sql, options)), ({ jobId }) => ({
      ...{ ...lost, subject_type: "job", subject_id: jobId, job_id: jobId },
      message: `job ${jobId} waits for a start hint that was sent long ago, and ${holds}`,
    }));
  }
  if (outboxQueue === "stages") {
    return found("lost-hint", atMost(await findOldStageHints(sql, options)), ({ stageId, jobId }) => ({
      ...{ ...lost, subject_type: "stage", subject_id: stageId, job_id: jobId, stage_id: stageId },
      message: `stage ${stageId} of job ${jobId} waits for a hint that was sent long ago, and ${holds}`,
    }));
  }
  // The counters of stages say so: if these are wrong, the queue isn't.
  const sent = await countSentMessages(sql, transport, outboxQueue);
  lacking.set(key, sent - active);
  if (sent - active <= (tolerance ?? 0)) return together([]);
  return found(
    "lost-hint",
    atMost(await countOldHints(sql, { ...options, queue: outboxQueue })),
    ({ stageId, jobId, tasks }) => ({
      ...{ ...lost, subject_type: "stage", subject_id: stageId, job_id: jobId, stage_id: stageId },
      message: `${tasks} tasks of stage ${stageId} of job ${jobId} wait for hints that were sent long ago, and ${holds}`,
    }),
  );
}

const keyOf = ({ transport, queue }: Reading): string => `${transport}/${queue}`;

/** By how many messages the queue holds fewer than it should, beyond the tolerance. */
function shortOf({ expected, counts, tolerance }: Reading): number {
  return expected && counts ? expected[0] - counts.active - (tolerance ?? 0) : 0;
}

function isDeep({ expected, counts, tolerance }: Reading): boolean {
  return expected !== null && counts !== null && counts.active > 2 * expected[1] + surplus + (tolerance ?? 0);
}

function one(finding: Finding): Found {
  return { findings: [finding], totals: new Map([[finding.kind, 1]]) };
}

function toBalance({ transport, queue, expected, counts, tolerance }: Reading): QueueBalance {
  return {
    transport,
    queue,
    expected: expected?.[0] ?? null,
    active: counts?.active ?? null,
    dead_lettered: counts?.deadLettered ?? null,
    tolerance,
  };
}

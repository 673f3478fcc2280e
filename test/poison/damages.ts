import { createHash } from "node:crypto";
import { pino } from "pino";
import type { Sql } from "../../shared/store/database.ts";
import { endStoppedJobs, startJob, stopJob, submitJob } from "../../shared/store/jobs.ts";
import { claimHintBatches, claimTaskBatches } from "../../shared/store/outbox.ts";
import { type PoisonFinding, recordPoison } from "../../shared/store/poison.ts";
import { renewRunner } from "../../shared/store/runners.ts";
import { type ClaimedStage, decideStage, insertTasks, releaseStage, sealStage, takeStage } from "../../shared/store/stages.ts";
import { cancelTasks, claimTasks, recordAttempts, sliceStage } from "../../shared/store/tasks.ts";
import { sendBatches, type Transports } from "../../shared/transport/send-batches.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import type { TransportName } from "../../shared/transports.ts";

/** Queues of their own that stages have here, beside the usual three. */
export const ownQueues = ["purged-queue", "deep-queue", "unserved-queue", "poisoned-queue"] as const;

/** A system in which damage is done: its rows, and brokers in memory. */
export interface DamagedSystem {
  readonly sql: Sql;
  readonly transports: Transports;
  readonly broker: Transport;
  /** Stops to answer. */
  readonly awayBroker: { isAway: boolean };
}

/** Damages a system in one way. Returns what is to be found: kind and subject of each finding. */
export interface Damage {
  readonly name: string;
  /** Whether a run with apply mends all of it. */
  readonly isRepairable: boolean;
  inflict(system: DamagedSystem, size: number): Promise<readonly string[]>;
}

const silent = pino({ level: "silent" });
const failing = { maxFailures: 1, backoffMs: 0, maxBackoffMs: 0 };
let jobs = 0;
let claims = 0;

const seedOf = (number: number, queue: string, deadlineMs: number | null = null) => ({
  ...{ number, name: `stage-${number}`, taskType: "t", queue, tasksPerMessage: 1, timeoutMs: 86_400_000 * 20, deadlineMs },
});

/** A job of its own, submitted, and its start hint sent. */
async function submit(system: DamagedSystem, processingPath: TransportName = "bullmq"): Promise<string> {
  const jobId = createHash("sha256").update(`${process.pid} ${++jobs}`).digest("hex");
  const { batches } = await submitJob(system.sql, "api", {
    ...{ jobId, jobType: "j", parameters: {}, processingPath, totalStages: 2, correlationId: "c" },
  });
  await sendBatches({ db: system.sql, sender: "api", transports: system.transports, log: silent }, batches);
  return jobId;
}

/** Being planned by an orchestrator that lives. */
async function plannedStage(system: DamagedSystem, queue = "tasks", deadlineMs: number | null = null): Promise<ClaimedStage> {
  const jobId = await submit(system);
  const stage = await startJob(system.sql, `orchestrator/${jobId}`, { jobId, run: 1, stage: seedOf(1, queue, deadlineMs) });
  if (!stage) throw new Error("the job did not start");
  await keepLeases(system.sql);
  return stage;
}

interface OpenStage {
  readonly stage: ClaimedStage;
  readonly stageId: number;
  readonly jobId: string;
  readonly taskIds: readonly number[];
}

/** Sealed, its tasks sent. */
async function openStage(
  system: DamagedSystem,
  tasks: number,
  queue = "tasks",
  deadlineMs: number | null = null,
): Promise<OpenStage> {
  const stage = await plannedStage(system, queue, deadlineMs);
  const parameters = Array.from({ length: tasks }, (_, number) => ({ number }));
  await insertTasks(system.sql, stage, { startIndex: 0, parameters, tasksPerMessage: 1 });
  await sealStage(system.sql, stage, tasks);
  await completeStart(system, stage.jobId);
  await relay(system);
  const rows = await system.sql<{ id: number }[]>`select id from tasks where stage_id = ${stage.stageId} order by index`;
  return { stage, stageId: stage.stageId, jobId: stage.jobId, taskIds: rows.map(({ id }) => id) };
}

/** Sends what is due, as a relay does. */
export async function relay({ sql, transports }: DamagedSystem): Promise<void> {
  const sender = { db: sql, sender: "relay", transports, log: silent };
  for (const name of transports.keys()) {
    await sendBatches(sender, await claimHintBatches(sql, "relay", name, 1_000));
    await sendBatches(sender, await claimTaskBatches(sql, "relay", name, { window: 100_000, limit: 1_000 }));
  }
}

/** Runners and orchestrators renew their leases for as long as the test runs. */
async function keepLeases(sql: Sql): Promise<void> {
  await sql`update stages set lease_until = now() + interval '1 hour' where owner is not null and lease_until > now() - interval '10 minutes'`;
  await sql`update runners set lease_until = now() + interval '1 hour' where lease_until > now() - interval '10 minutes'`;
}

async function startRunner(sql: Sql, id: string, queue = "tasks"): Promise<void> {
  await renewRunner(sql, { id, processingPath: "bullmq", queue });
  await keepLeases(sql);
}

/** Claims tasks, and takes each one's message as a runner does: it stays in the queue until the task has ended. */
async function claim(
  sql: Sql,
  runner: string,
  taskIds: readonly number[],
): Promise<readonly { taskId: number; claimId: string }[]> {
  const wanted = taskIds.map((taskId) => ({ taskId, claimId: `${runner}:${++claims}` }));
  const answers = await claimTasks(sql, runner, wanted);
  if (answers.some((answer) => typeof answer !== "object")) throw new Error(`not claimed: ${JSON.stringify(answers)}`);
  return wanted;
}

/** Claims and ends tasks, and completes as many messages. */
async function end(
  system: DamagedSystem,
  { taskIds, queue = "tasks" }: { taskIds: readonly number[]; queue?: string },
  outcome: "completed" | "failed",
) {
  const { sql } = system;
  await startRunner(sql, "runner", "tasks");
  for (const taken of await claim(sql, "runner", taskIds)) {
    const { batches } = await recordAttempts(sql, "runner", [
      outcome === "completed"
        ? { ...taken, outcome, result: { by: taken.claimId } }
        : { ...taken, outcome, error: { code: "error", message: "no" }, permanent: true, retry: failing },
    ]);
    await sendBatches({ db: sql, sender: "runner", transports: system.transports, log: silent }, batches);
  }
  await takeMessages(system, queue, taskIds);
  await sql`update poison_messages set verdict = 'expected', judged_at = now(), fingerprint = ${await anyGroup(
    sql,
  )} where verdict is null and origin = 'row'`;
}

async function anyGroup(sql: Sql): Promise<string> {
  const fingerprint = "0".repeat(16);
  await sql`insert into poison_groups (fingerprint, code, message) values (${fingerprint}, 'error', 'no') on conflict do nothing`;
  return fingerprint;
}

/** Completes the messages of these tasks. */
async function takeMessages(system: DamagedSystem, queue: string, taskIds: readonly number[]): Promise<void> {
  await complete(system, queue, (body) => taskIds.includes(body.taskIds?.[0] ?? 0));
}

interface Body {
  readonly jobId?: string;
  readonly stageId?: number;
  readonly taskIds?: readonly number[];
}

/** Completes some messages of a queue, as whoever handled them does; or they are lost. */
async function complete({ broker }: DamagedSystem, queue: string, isOver: (body: Body) => boolean): Promise<void> {
  const { signal } = new AbortController();
  const { active } = await broker.counts(queue);
  for (const message of active === 0 ? [] : await broker.receive(queue, { max: active, signal })) {
    if (message.body !== "" && isOver(JSON.parse(message.body))) await message.complete();
    else await message.abandon();
  }
}

const completeStart = (system: DamagedSystem, jobId: string) => complete(system, "jobs", (body) => body.jobId === jobId);
const completeStage = (system: DamagedSystem, stageId: number) => complete(system, "stages", (body) => body.stageId === stageId);

async function completedJob(system: DamagedSystem, tasks: number, failed = 0): Promise<OpenStage> {
  const open = await openStage(system, tasks);
  await end(system, { taskIds: open.taskIds.slice(failed) }, "completed");
  await end(system, { taskIds: open.taskIds.slice(0, failed) }, "failed");
  await relay(system);
  const reducing = await takeStage(system.sql, "orchestrator/reduce", open.stageId, open.stage.run);
  if (!reducing) throw new Error("the stage was not taken");
  const status = failed > 0 ? "completed_with_errors" : "completed";
  await decideStage(system.sql, reducing, {
    result: {
      ...{
        stage_number: 1,
        stage_key: "stage-1",
        status,
        task_count: tasks,
        successful_tasks: tasks - failed,
        failed_tasks: failed,
      },
      ...{ success_rate: 100, task_results: [], completed_at: "", metadata: {}, orchestration: { action: "complete_job" } },
    },
    then: { action: "end-job", status, result: { done: true } },
  });
  await completeStage(system, open.stageId);
  return open;
}

async function cancelledJob(system: DamagedSystem, tasks: number): Promise<OpenStage> {
  const open = await openStage(system, tasks);
  await stopJob(system.sql, { jobId: open.jobId, as: "cancelled", error: null });
  for (const slice of sliceStage({ stageId: open.stageId, nextIndex: tasks })) {
    await cancelTasks(system.sql, "orchestrator", slice);
  }
  await endStoppedJobs(system.sql, open.jobId);
  await takeMessages(system, "tasks", open.taskIds);
  return open;
}

async function reducingStage(system: DamagedSystem, tasks: number): Promise<OpenStage> {
  const open = await openStage(system, tasks);
  await end(system, { taskIds: open.taskIds }, "completed");
  await relay(system);
  return open;
}

/** What no statement of ours can do: guards and constraints in triggers don't hold. */
async function forceRows(sql: Sql, change: (tx: Sql) => Promise<unknown>): Promise<void> {
  await sql.begin(async (tx) => {
    await tx`set local session_replication_role = replica`;
    await change(tx as unknown as Sql);
  });
}

/** Jobs in every condition that a healthy system has, old ones among them. */
export async function buildHealthySystem(system: DamagedSystem): Promise<void> {
  const { sql } = system;
  await startRunner(sql, "runner");
  await submit(system);
  await plannedStage(system);
  const planning = await plannedStage(system);
  await insertTasks(sql, planning, { startIndex: 0, parameters: [{}, {}, {}], tasksPerMessage: 1 });
  const released = await plannedStage(system);
  await releaseStage(sql, released, { code: "error", message: "comes again" });
  await sql`update outbox set not_before = now() + interval '1 hour' where stage_id = ${released.stageId}`;
  await completeStart(system, released.jobId);
  const open = await openStage(system, 9);
  await end(system, { taskIds: open.taskIds.slice(0, 3) }, "completed");
  await end(system, { taskIds: open.taskIds.slice(3, 5) }, "failed");
  await claim(sql, "runner", open.taskIds.slice(5, 7));
  const [retried] = await claim(sql, "runner", open.taskIds.slice(7, 8));
  if (retried) {
    const retry = { maxFailures: 5, backoffMs: 3_600_000, maxBackoffMs: 3_600_000 };
    const error = { code: "error", message: "again" };
    await recordAttempts(sql, "runner", [{ ...retried, outcome: "failed", error, permanent: false, retry }]);
  }
  await takeMessages(system, "tasks", open.taskIds.slice(7, 8));
  await completedJob(system, 4);
  await completedJob(system, 3, 1);
  await cancelledJob(system, 3);
  await reducingStage(system, 2);
}

/** What has been there for an hour, as far as its age alone means nothing. */
export async function ageRows(sql: Sql): Promise<void> {
  await sql`update outbox set created_at = created_at - interval '1 hour', sent_at = sent_at - interval '1 hour'`;
  await sql`update stages set created_at = created_at - interval '1 hour', hinted_at = hinted_at - interval '1 hour'`;
  await sql`update tasks set created_at = created_at - interval '1 hour', claimed_at = claimed_at - interval '1 hour', ended_at = ended_at - interval '1 hour'`;
  await sql`update jobs set created_at = created_at - interval '1 hour', updated_at = updated_at - interval '1 hour' where status <> 'stopping'`;
  await keepLeases(sql);
}

export const damages: readonly Damage[] = [
  {
    name: "counters that are off",
    isRepairable: true,
    async inflict(system, size) {
      const { stageId, taskIds } = await openStage(system, size + 2);
      await end(system, { taskIds: taskIds.slice(0, 1) }, "completed");
      await system.sql`update stages set completed = completed + ${size}, failed = failed + 1 where id = ${stageId}`;
      return [`counter-mismatch ${stageId}`];
    },
  },
  {
    name: "counters that count too little, so that the barrier stays shut",
    isRepairable: true,
    async inflict(system, size) {
      const { stageId } = await reducingStage(system, size);
      await forceRows(system.sql, async (tx) => {
        await tx`update stages set status = 'open', completed = completed - 1, barrier_opened = 0 where id = ${stageId}`;
        await tx`delete from events where stage_id = ${stageId} and kind = 'barrier-opened'`;
        await tx`delete from outbox where stage_id = ${stageId} and kind = 'stage'`;
      });
      await completeStage(system, stageId);
      return [`counter-mismatch ${stageId}`];
    },
  },
  {
    name: "a batch that is gone from the outbox",
    isRepairable: true,
    async inflict(system, size) {
      const { stageId, taskIds } = await openStage(system, size);
      await system.sql`delete from outbox where stage_id = ${stageId} and kind = 'tasks'`;
      return taskIds.map((taskId) => `missing-outbox-row ${taskId}`);
    },
  },
  {
    name: "a batch that no longer names its task",
    isRepairable: true,
    async inflict(system, size) {
      const { stageId, taskIds } = await openStage(system, size + 1);
      const [lost = 0] = taskIds;
      await system
        .sql`update outbox set task_ids = array_remove(task_ids, ${lost}::bigint) where stage_id = ${stageId} and kind = 'tasks'`;
      return [`missing-outbox-row ${lost}`];
    },
  },
  {
    name: "a queue that lost its messages",
    isRepairable: true,
    async inflict(system, size) {
      await startRunner(system.sql, "runner-purged", "purged-queue");
      const { stageId } = await openStage(system, size, "purged-queue");
      await system.broker.purge("purged-queue");
      return [`lost-hint ${stageId}`];
    },
  },
  {
    name: "a runner that died",
    isRepairable: true,
    async inflict(system, size) {
      const runner = `runner-dead-${++claims}`;
      await startRunner(system.sql, runner);
      const { taskIds } = await openStage(system, size);
      await claim(system.sql, runner, taskIds);
      await system.sql`update runners set lease_until = now() - interval '1 hour' where id = ${runner}`;
      return [`dead-runner ${runner}`, ...taskIds.map((taskId) => `zombie-attempt ${taskId}`)];
    },
  },
  {
    name: "attempts of a runner that is unknown",
    isRepairable: true,
    async inflict(system, size) {
      const { taskIds } = await openStage(system, size);
      await claim(system.sql, `runner-unknown-${++claims}`, taskIds);
      return taskIds.map((taskId) => `zombie-attempt ${taskId}`);
    },
  },
  {
    name: "a batch of tasks that never were",
    isRepairable: true,
    async inflict(system, size) {
      const { sql } = system;
      const { stageId, jobId, stage } = await openStage(system, 1);
      const [row] = await sql<{ id: number }[]>`
        insert into outbox (batch_id, job_id, stage_id, transport, queue, kind, run, task_ids, not_before)
        values (${`orphan-${stageId}`}, ${jobId}, ${stageId}, 'bullmq', 'tasks', 'tasks', ${stage.run},
          (select array_agg(900000000 + serial) from generate_series(1, ${size}::int) as serial), now() + interval '1 hour')
        returning id`;
      return [`orphan-outbox ${row?.id}`];
    },
  },
  {
    name: "a batch that is locked for a day",
    isRepairable: true,
    async inflict(system) {
      const { sql } = system;
      const stage = await plannedStage(system);
      await insertTasks(sql, stage, { startIndex: 0, parameters: [{}], tasksPerMessage: 1 });
      await sealStage(sql, stage, 1);
      await completeStart(system, stage.jobId);
      const [row] = await sql<{ id: number }[]>`
        update outbox set locked_by = 'nobody', locked_until = now() + interval '1 day'
        where stage_id = ${stage.stageId} and kind = 'tasks' returning id`;
      return [`unsent-batch ${row?.id}`];
    },
  },
  {
    name: "an open task in a job that has ended",
    isRepairable: true,
    async inflict(system, size) {
      const { stageId, taskIds } = await cancelledJob(system, size);
      const [first = 0] = taskIds;
      await forceRows(system.sql, async (tx) => {
        await tx`update tasks set status = 'pending', ended_at = null where id = ${first}`;
        await tx`update stages set cancelled = cancelled - 1 where id = ${stageId}`;
      });
      return [`open-task-in-ended-job ${first}`];
    },
  },
  {
    name: "an open stage in a job that has ended",
    isRepairable: true,
    async inflict(system, size) {
      const { stageId } = await cancelledJob(system, size);
      await forceRows(system.sql, (tx) => tx`update stages set status = 'planning', ended_at = null where id = ${stageId}`);
      return [`open-stage-in-ended-job ${stageId}`];
    },
  },
  {
    name: "an open task in a stage that is past",
    isRepairable: true,
    async inflict(system, size) {
      const { stageId, taskIds, jobId } = await cancelledJob(system, size);
      const [first = 0] = taskIds;
      const { sql } = system;
      await forceRows(sql, async (tx) => {
        await tx`update jobs set status = 'processing', ended_at = null where id = ${jobId}`;
        await tx`delete from events where job_id = ${jobId} and kind = 'job-ended'`;
        await tx`update tasks set status = 'pending', ended_at = null where id = ${first}`;
        await tx`update stages set cancelled = cancelled - 1 where id = ${stageId}`;
        await tx`insert into stages (job_id, number, name, task_type, queue, timeout_ms, run, owner, lease_until)
          values (${jobId}, 2, 'next', 't', 'tasks', 1000, 2, 'orchestrator/next', now() + interval '1 hour')`;
      });
      await system.broker.send("stages", [{ messageId: `next-${stageId}`, body: "{}" }]);
      return [`orphan-task ${first}`];
    },
  },
  {
    name: "a barrier that stayed shut",
    isRepairable: true,
    async inflict(system, size) {
      const { stageId } = await reducingStage(system, size);
      await forceRows(system.sql, async (tx) => {
        await tx`update stages set status = 'open', barrier_opened = 0 where id = ${stageId}`;
        await tx`delete from events where stage_id = ${stageId} and kind = 'barrier-opened'`;
        await tx`delete from outbox where stage_id = ${stageId} and kind = 'stage'`;
      });
      await completeStage(system, stageId);
      return [`stuck-stage ${stageId}`];
    },
  },
  {
    name: "a planner that died",
    isRepairable: true,
    async inflict(system) {
      const { stageId } = await plannedStage(system);
      await system.sql`update stages set lease_until = now() - interval '1 hour' where id = ${stageId}`;
      return [`stalled-stage ${stageId}`];
    },
  },
  {
    name: "a stage whose hint was lost",
    isRepairable: true,
    async inflict(system, size) {
      const { stageId } = await reducingStage(system, size);
      await completeStage(system, stageId);
      await system.sql`update stages set hinted_at = now() - interval '1 hour' where id = ${stageId}`;
      return [`lost-hint ${stageId}`];
    },
  },
  {
    name: "a stage interrupted too often whose job was not closed",
    isRepairable: true,
    async inflict(system, size) {
      const { stageId } = await reducingStage(system, size);
      await system.sql`update stages set hinted_at = now() - interval '10 minutes', interruptions = 3 where id = ${stageId}`;
      return [`stalled-stage ${stageId}`];
    },
  },
  {
    name: "a stage past its deadline",
    isRepairable: true,
    async inflict(system, size) {
      const { stageId } = await openStage(system, size, "tasks", 3_600_000);
      await system.sql`update stages set deadline_at = now() - interval '1 hour' where id = ${stageId}`;
      return [`overdue-stage ${stageId}`];
    },
  },
  {
    name: "a job whose stages are gone",
    isRepairable: true,
    async inflict(system) {
      const { jobId } = await plannedStage(system);
      await system.sql`delete from stages where job_id = ${jobId}`;
      await completeStart(system, jobId);
      return [`stalled-job ${jobId}`];
    },
  },
  {
    name: "a job that doesn't come to a stop",
    isRepairable: true,
    async inflict(system, size) {
      const { jobId, taskIds } = await openStage(system, size);
      await stopJob(system.sql, { jobId, as: "cancelled", error: null });
      await system.sql`update jobs set updated_at = now() - interval '1 hour' where id = ${jobId}`;
      await takeMessages(system, "tasks", taskIds);
      return [`stalled-job ${jobId}`];
    },
  },
  {
    name: "a job whose start hint was lost",
    isRepairable: true,
    async inflict(system) {
      const jobId = await submit(system);
      await completeStart(system, jobId);
      await system.sql`update jobs set updated_at = now() - interval '1 hour' where id = ${jobId}`;
      return [`lost-hint ${jobId}`];
    },
  },
  {
    name: "a poison message that nobody judged",
    isRepairable: true,
    async inflict({ sql }, size) {
      const finding: Omit<PoisonFinding, "identity"> = {
        ...{
          transport: "bullmq" as const,
          queue: "tasks",
          messageId: "m",
          reason: "invalid-message",
          description: "",
          deliveryCount: 1,
        },
        ...{
          bodyHead: "",
          bodySize: 0,
          bodyHash: "",
          bodyRef: null,
          kind: null,
          jobId: null,
          stageId: null,
          taskIds: [],
          run: null,
        },
      } as const;
      const recorded = await recordPoison(
        sql,
        Array.from({ length: size }, () => ({ ...finding, identity: `unjudged-${++claims}` })),
      );
      await sql`update poison_messages set last_seen_at = now() - interval '1 hour', first_seen_at = now() - interval '1 hour' where verdict is null`;
      return recorded.map(({ poisonId }) => `poison-unjudged ${poisonId}`);
    },
  },
  {
    name: "tasks that are gone",
    isRepairable: false,
    async inflict(system, size) {
      const { stageId, taskIds } = await openStage(system, size + 1);
      await system.sql`delete from tasks where id in ${system.sql(taskIds.slice(0, size))}`;
      await takeMessages(system, "tasks", taskIds.slice(0, size));
      return [`index-gap ${stageId}`];
    },
  },
  {
    name: "the last task of a stage, gone",
    isRepairable: false,
    async inflict(system, size) {
      const { stageId, taskIds } = await openStage(system, size + 1);
      await system.sql`delete from tasks where id = ${taskIds.at(-1) ?? 0}`;
      await takeMessages(system, "tasks", taskIds.slice(-1));
      return [`index-gap ${stageId}`];
    },
  },
  {
    name: "a result that counts its tasks otherwise",
    isRepairable: false,
    async inflict(system, size) {
      const { stageId } = await completedJob(system, size);
      await system.sql`update stages set result = jsonb_set(result, '{successful_tasks}', '77') where id = ${stageId}`;
      return [`contradiction ${stageId}`];
    },
  },
  {
    name: "a result that is gone",
    isRepairable: false,
    async inflict(system, size) {
      const { stageId, jobId } = await completedJob(system, size);
      await system.sql`update stages set result = null where id = ${stageId}`;
      await system.sql`update jobs set result = null where id = ${jobId}`;
      return [`result-missing ${stageId}`, `result-missing ${jobId}`];
    },
  },
  {
    name: "a barrier of another run",
    isRepairable: false,
    async inflict(system, size) {
      const { stageId } = await reducingStage(system, size);
      await system.sql`update stages set barrier_opened = 0 where id = ${stageId}`;
      return [`contradiction ${stageId}`];
    },
  },
  {
    name: "a failure without a poison record",
    isRepairable: false,
    async inflict(system, size) {
      const { taskIds } = await openStage(system, size + 1);
      const failed = taskIds.slice(0, size);
      await end(system, { taskIds: failed }, "failed");
      for (const taskId of failed) await system.sql`delete from poison_messages where ${taskId}::bigint = any (task_ids)`;
      return failed.map((taskId) => `failed-without-poison-record ${taskId}`);
    },
  },
  {
    name: "dead letters that nobody takes in",
    isRepairable: false,
    async inflict({ broker }, size) {
      const { signal } = new AbortController();
      await broker.send(
        "poisoned-queue",
        Array.from({ length: size }, (_, number) => ({ messageId: `dead-${number}`, body: "" })),
      );
      for (const message of await broker.receive("poisoned-queue", { max: size, signal })) {
        await message.moveToDeadLetters("no", "no");
      }
      return ["poison-backlog bullmq/poisoned-queue"];
    },
  },
  {
    name: "a queue full of messages of no work",
    isRepairable: false,
    async inflict({ broker }, size) {
      await broker.send(
        "deep-queue",
        Array.from({ length: 1_000 + size }, (_, number) => ({ messageId: `deep-${number}`, body: "" })),
      );
      return ["queue-deeper-than-rows bullmq/deep-queue"];
    },
  },
  {
    name: "a queue without a runner",
    isRepairable: false,
    async inflict(system, size) {
      await openStage(system, size, "unserved-queue");
      return ["no-live-runner bullmq/unserved-queue"];
    },
  },
  {
    name: "a broker that doesn't answer",
    isRepairable: false,
    async inflict({ awayBroker }) {
      awayBroker.isAway = true;
      return ["jobs", "stages", "tasks"].map((queue) => `broker-away storage_queue/geospatial-${queue}`);
    },
  },
];

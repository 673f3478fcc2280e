import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { findUnendedJobs, findViolations } from "../../shared/store/invariants.ts";
import { retryWhileAway, type Sql } from "../../shared/store/database.ts";
import type { RoleName } from "../../shared/roles.ts";
import { maxStageInterruptions } from "../../shared/store/stages.ts";
import { maxInterruptions } from "../../shared/store/tasks.ts";
import { defaultQueues } from "../../shared/transport/queues.ts";
import type { Broker } from "../support/brokers.ts";
import { createTestDatabase } from "../support/database.ts";
import { expectGreetings } from "../support/greetings.ts";
import { whenEnded } from "../support/pipeline.ts";
import { type RoleProcess, startRole } from "../support/processes.ts";
import { createRandom } from "../support/random.ts";

export interface CrashOptions {
  readonly broker: Broker;
  readonly seed: number;
  readonly kills: number;
  /** Greetings of each job. */
  readonly n: number;
  /** Jobs kept open at a time. */
  readonly jobsAtOnce: number;
}

export interface CrashReport {
  readonly kills: Readonly<Record<string, number>>;
  /** Kills that struck a process with work in flight. */
  readonly inFlight: number;
  readonly jobs: number;
  /** Those of `n` greetings among them. */
  readonly largeJobs: number;
  readonly interruptedTasks: number;
  /** From a kill until a task that it interrupted ran again, in milliseconds. */
  readonly longestInterruptionMs: number;
}

/** The processes under fire: two of each but the api, as a restart takes a second. */
const staffing: readonly RoleName[] = ["api", "orchestrator", "orchestrator", "task-runner", "task-runner"];
const maxInterruptionMs = 30_000;

/** A task whose runner was killed. */
interface StruckTask {
  readonly attempt: number;
  readonly killedAt: number;
  /** When its hint may have been struck last, in the hands of another runner that was killed: from then on it has its time again. */
  hintStruckAt: number;
  freed: boolean;
}

interface Job {
  readonly jobId: string;
  readonly name: string;
  readonly n: number;
}

/**
 * Kills processes of every role with SIGKILL while jobs run, restarts them, and checks what came of it: every job ends right,
 * results complete and not doubled, invariants hold, interrupted work runs again within 30 s (of the last kill that may have struck
 * it: first the task, then its hint in the hands of another runner). Each process is stopped with
 * SIGSTOP first, to see whether it had work in flight, and mostly killed only if it had.
 */
export async function runCrashes({ broker, seed, kills, n, jobsAtOnce }: CrashOptions): Promise<CrashReport> {
  const random = createRandom(seed);
  const database = await createTestDatabase();
  const { sql } = database;
  const environment = {
    DATABASE_URL: database.url,
    CLAIM_CHECK_DIRECTORY: "/tmp/sluice-crash-claim-checks",
    AZURE_STORAGE_CONNECTION_STRING: "UseDevelopmentStorage=true",
    CONCURRENCY: "8",
    PREFETCH: "8",
    ...broker.environment,
  };
  const transport = broker.open();
  await transport.provision(Object.values(defaultQueues[transport.name]));
  await transport.close();
  /** Undefined while one restarts. */
  const processes: (RoleProcess | undefined)[] = await Promise.all(staffing.map((role) => startRole(role, environment)));
  const restarts = new Set<Promise<void>>();
  const jobs: Job[] = [];
  const submitting = new Map<string, number>(); // requests in flight, by api process
  const done = new AbortController();
  const killed: Record<string, number> = {};
  const struckByKill = new Map<number, StruckTask>();
  /** How long a process took to start, lately: on a slow or busy machine kills come as much slower, or none would live to do any good. */
  let startMs = 1_000;
  let inFlight = 0;
  let interruptedTasks = 0;
  let longestInterruptionMs = 0;

  /** Keeps so many large jobs open. */
  async function submitLargeJobs(): Promise<void> {
    for (let serial = 0; !done.signal.aborted; serial++) {
      while (!done.signal.aborted && (await countOpenJobs(sql, n)) >= jobsAtOnce) await sleep(50);
      if (done.signal.aborted) return;
      await submitTogether({ name: `seed ${seed} job ${serial}`, n }, 3);
    }
  }

  /** Keeps the api at work, with small jobs and with copies of what it knows already. */
  async function submitSmallJobs(): Promise<void> {
    for (let serial = 0; !done.signal.aborted; serial++) {
      await submitTogether({ name: `seed ${seed} small job ${serial}`, n: 2 }, 2);
      for (let copies = 0; copies < 10 && !done.signal.aborted; copies++) {
        const known = jobs[random.integer(jobs.length)];
        if (known) expect(await submit(known)).toBe(known.jobId);
        await sleep(random.integer(20));
      }
    }
  }

  async function submitTogether(job: Omit<Job, "jobId">, times: number): Promise<void> {
    const [jobId = "", ...copies] = await Promise.all(Array.from({ length: times }, () => submit(job)));
    expect(copies).toEqual(copies.map(() => jobId));
    jobs.push({ ...job, jobId });
  }

  async function submit({ name, n }: Omit<Job, "jobId">): Promise<string> {
    for (;;) {
      const api = processes.find((candidate) => candidate?.role === "api");
      if (!api) {
        await sleep(50);
        continue;
      }
      submitting.set(api.id, (submitting.get(api.id) ?? 0) + 1);
      try {
        const response = await fetch(`http://127.0.0.1:${api.port}/api/jobs/submit/hello_world`, {
          method: "POST",
          body: JSON.stringify({ n, name, failure_rate: 0.1 }),
          signal: AbortSignal.timeout(10_000),
        });
        if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
        const { job_id } = await response.json() as { job_id: string };
        return job_id;
      } catch {
        await sleep(50); // killed under the request, or not there yet: a client asks again
      } finally {
        submitting.set(api.id, (submitting.get(api.id) ?? 1) - 1);
      }
    }
  }

  async function countWork({ role, id }: RoleProcess): Promise<number> {
    if (role === "api") return submitting.get(id) ?? 0;
    if (role === "task-runner") {
      const rows = await sql<{ id: number; attempt: number }[]>`
        select id, attempt from tasks where runner_id = ${id} and status = 'processing'`;
      return rows.length;
    }
    const [row] = await sql<{ work: number }[]>`
      select ((select count(*) from stages where owner like ${id + "/%"})
        + (select count(*) from outbox where locked_by like ${id + "%"} and status = 'pending_queue'))::int as work`;
    return row?.work ?? 0;
  }

  /** Stops the process at moments of chance until one finds it at work; false if none does in a while. */
  async function catchAtWork(victim: RoleProcess): Promise<boolean> {
    for (const giveUpAt = performance.now() + 300; performance.now() < giveUpAt;) {
      victim.signal("SIGCONT");
      await sleep(random.integer(20));
      victim.signal("SIGSTOP");
      if (await countWork(victim) > 0) return true;
    }
    return false;
  }

  /** What a stopped process has asked for may still change what it holds: those of its role that were under way have ended. */
  async function whenStatementsEnded(role: RoleName): Promise<void> {
    const [{ stoppedAt } = { stoppedAt: 0 }] = await sql<{ stoppedAt: number }[]>`
      select extract(epoch from clock_timestamp())::float as "stoppedAt"`;
    // One that waits for a lock of the stopped process itself never will.
    for (const giveUpAt = performance.now() + 200; performance.now() < giveUpAt;) {
      const running = await sql`
        select from pg_stat_activity where datname = current_database() and application_name = ${`sluice-${role}`}
          and state = 'active' and query_start < to_timestamp(${stoppedAt})`;
      if (running.length === 0) return;
    }
  }

  /** One more interruption would rightly fail what it holds; every job here is to complete, so it is spared for the moment. */
  async function isAtItsBound({ id }: RoleProcess): Promise<boolean> {
    const rows = await sql`
      select from tasks where runner_id = ${id} and status = 'processing' and interruptions >= ${maxInterruptions - 1}
      union all
      select from stages where owner like ${id + "/%"} and interruptions >= ${maxStageInterruptions - 1}`;
    return rows.length > 0;
  }

  async function killOne(): Promise<void> {
    for (let tries = 0;; tries++) {
      const index = random.integer(processes.length);
      const victim = processes[index];
      if (!victim) {
        await sleep(50);
        continue;
      }
      const atWork = await catchAtWork(victim);
      await whenStatementsEnded(victim.role);
      if ((!atWork && tries < 30) || await isAtItsBound(victim)) {
        victim.signal("SIGCONT");
        continue;
      }
      if (victim.role === "task-runner") {
        await noteStruckTasks(victim.id);
        for (const struck of struckByKill.values()) if (struck.freed) struck.hintStruckAt = performance.now();
      }
      processes[index] = undefined;
      await victim.end("SIGKILL");
      killed[victim.role] = (killed[victim.role] ?? 0) + 1;
      if (atWork) inFlight += 1;
      const restart = sleep(random.integer(300)).then(async () => {
        const begunAt = performance.now();
        processes[index] = await startRole(victim.role, environment);
        startMs = 0.7 * startMs + 0.3 * (performance.now() - begunAt);
        restarts.delete(restart);
      });
      restarts.add(restart);
      return;
    }
  }

  async function noteStruckTasks(runnerId: string): Promise<void> {
    const rows = await sql<{ id: number; attempt: number }[]>`
      select id, attempt from tasks where runner_id = ${runnerId} and status = 'processing'`;
    interruptedTasks += rows.length;
    const killedAt = performance.now();
    for (const { id, attempt } of rows) struckByKill.set(id, { attempt, killedAt, hintStruckAt: killedAt, freed: false });
  }

  /** A statement under way when the runner died may still have committed: then the task has ended, which will do as well. */
  async function watchInterruptions(): Promise<void> {
    while (!done.signal.aborted || struckByKill.size > 0) {
      await sleep(250);
      const rows = await sql<{ id: number; attempt: number; freed: boolean; ended: boolean }[]>`
        select id, attempt, status = 'pending' as freed, ended_at is not null as ended from tasks
        where id in (select value::bigint from json_array_elements_text(${
        JSON.stringify([...struckByKill.keys()])
      }::text::json))`;
      for (const { id, attempt, freed, ended } of rows) {
        const struck = struckByKill.get(id);
        if (!struck) continue;
        struck.freed = freed;
        const elapsedMs = performance.now() - (freed ? struck.hintStruckAt : struck.killedAt);
        if (ended || attempt > struck.attempt) {
          longestInterruptionMs = Math.max(longestInterruptionMs, performance.now() - struck.killedAt);
          struckByKill.delete(id);
        } else if (elapsedMs > maxInterruptionMs) {
          const history = await describeTask(sql, id);
          throw new Error(`task ${id} was interrupted ${Math.round(elapsedMs)} ms ago and has not run again: ${history}`);
        }
      }
    }
  }

  try {
    const background = Promise.all([submitLargeJobs(), submitLargeJobs(), submitSmallJobs(), watchInterruptions()]);
    let failure: unknown;
    background.catch((error: unknown) => (failure = error));
    for (let kill = 0; kill < kills && failure === undefined; kill++) {
      await killOne();
      await sleep(random.integer(Math.max(500, Math.round(startMs / 2))));
    }
    await Promise.all(restarts);
    done.abort();
    await background;
    for (const { jobId, name, n } of jobs) {
      const job = await whenEnded(sql, jobId, 60_000);
      expect(job, name).toMatchObject({ status: "completed", error: null, result: { greetings: n, replies: n } });
      await expectGreetings(sql, jobId, n, name);
    }
    expect(await findUnendedJobs(sql)).toEqual([]);
    expect(await findViolations(sql)).toEqual([]);
    return {
      kills: killed,
      inFlight,
      jobs: jobs.length,
      largeJobs: jobs.filter((job) => job.n === n).length,
      interruptedTasks,
      longestInterruptionMs: Math.round(longestInterruptionMs),
    };
  } catch (error) {
    console.error(`after ${Object.values(killed).reduce((sum, n) => sum + n, 0)} kills:`, error);
    for (const running of processes) if (running) console.error(`--- ${running.role}\n${running.lines.slice(-30).join("\n")}`);
    throw error;
  } finally {
    done.abort();
    await Promise.allSettled(restarts);
    await Promise.all(processes.map((running) => running?.end("SIGKILL")));
    await database.drop();
  }
}

async function countOpenJobs(sql: Sql, n: number): Promise<number> {
  const [row] = await retryWhileAway(
    () =>
      sql<{ open: number }[]>`select count(*)::int as open from jobs where ended_at is null and (parameters ->> 'n')::int = ${n}`,
    AbortSignal.timeout(60_000),
  );
  return row?.open ?? 0;
}

async function describeTask(sql: Sql, taskId: number): Promise<string> {
  const [task] = await sql`
    select tasks.status, attempt, interruptions, now() - claimed_at as claimed, outbox.status as batch, now() - outbox.created_at as created,
      now() - outbox.sent_at as sent, sends, locked_by
    from tasks join outbox on outbox.id = outbox_id where tasks.id = ${taskId}`;
  const events = await sql`select kind, now() - created_at as ago from events where task_id = ${taskId} order by id`;
  const queued = await sql`select status, count(*) from tasks group by status`;
  const [runner] = await sql`
    select runners.id, lease_until - now() as lease from tasks left join runners on runners.id = runner_id where tasks.id = ${taskId}`;
  const sweep = await sql`select owner, lease_until - now() as lease from leases`;
  const backends = await sql`
    select application_name, state, wait_event_type, wait_event, now() - xact_start as in_transaction, pg_blocking_pids(pid) as blocked_by, pid,
      left(query, 100) as query
    from pg_stat_activity where datname = current_database() and xact_start < now() - interval '1 s'`;
  return JSON.stringify({ task, runner, sweep, backends, events, queued });
}

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { loadConfig as loadOrchestratorConfig } from "../../services/orchestrator/config.ts";
import { runOrchestrator } from "../../services/orchestrator/run.ts";
import { loadConfig as loadRunnerConfig } from "../../services/task-runner/config.ts";
import { runTaskRunner } from "../../services/task-runner/run.ts";
import { createJobCatalog } from "../../shared/jobs/catalog.ts";
import { retryWhileAway } from "../../shared/store/database.ts";
import { findUnendedJobs, findViolations } from "../../shared/store/invariants.ts";
import { stopJob, submitJob } from "../../shared/store/jobs.ts";
import { sendBatches } from "../../shared/transport/send-batches.ts";
import { compare, emptySnapshot, readSnapshot, type Snapshot } from "./checks.ts";
import { createMutator, type Mutation } from "./mutation.ts";
import { checkOutcome } from "./outcome.ts";
import { createRandom, type Random } from "./random.ts";
import {
  createScriptedHandler,
  createScriptedJob,
  createScripts,
  type Effects,
  type JobScript,
  type ScriptFocus,
  taskTimeoutMs,
} from "./scripted-jobs.ts";
import { type BrokerCruelty, queues, SimulatedBroker } from "./simulated-broker.ts";
import { type Blobs, createSimulatedClaimCheck } from "./simulated-claim-check.ts";
import { createSimulatedSql, epochMs, type SimulationDatabase } from "./simulated-database.ts";
import { installVirtualTime } from "./virtual-time.ts";
import { calm, type Cruelty, type SimulatedProcess, World } from "./world.ts";

export interface Focus extends ScriptFocus {
  readonly cruelty?: Partial<Cruelty>;
  readonly broker?: Partial<BrokerCruelty>;
  /** How likely a job is cancelled. */
  readonly cancels?: number;
}

export interface SimulationOptions {
  readonly seed: number;
  /** Emptied first; one run at a time. */
  readonly database: SimulationDatabase;
  /** Guards taken out of the engine. */
  readonly mutations?: readonly Mutation[];
  /** What the run is to be about, instead of whatever chance has. */
  readonly focus?: Focus;
  /** False: results are stored without the claim id in their key. */
  readonly claimIdInKeys?: boolean;
  /** False: each statement of a transaction commits by itself. */
  readonly atomic?: boolean;
}

export interface Simulated {
  /** Empty if all went well; the run ends with the step that found the first. */
  readonly violations: readonly string[];
  /** What the schema refused: a guard of last resort had to act. */
  readonly refusals: readonly string[];
  /** What happened, line by line. */
  readonly trace: readonly string[];
  readonly steps: number;
  readonly virtualSeconds: number;
  readonly jobs: readonly string[];
  /** Mutations that matched no statement, or more than one. */
  readonly unmatched: readonly string[];
}

const attemptGraceMs = 5_000;
const environment = {
  DATABASE_URL: "postgres://unused",
  TRANSPORTS: "bullmq",
  GRACE_MS: "5000",
  SWEEP_INTERVAL_MS: "6000",
  RELAY_IDLE_MS: "4000",
  ATTEMPT_GRACE_MS: String(attemptGraceMs),
};
const orchestratorConfig = loadOrchestratorConfig({ ...environment, CONCURRENCY: "3" });
const runnerConfig = {
  ...loadRunnerConfig({ ...environment, CONCURRENCY: "3", PREFETCH: "1", RECEIVERS: "1" }),
  queue: queues.tasks,
};

class ViolationFound extends Error {}

/** Runs the real services against the real database, through chaos and then calm, and checks all the way. */
export async function simulate(options: SimulationOptions): Promise<Simulated> {
  const restoreTime = installVirtualTime();
  try {
    return await new Simulation(options).run();
  } finally {
    restoreTime();
  }
}

class Simulation {
  readonly #options: SimulationOptions;
  readonly #random: Random;
  readonly #world: World;
  readonly #broker: SimulatedBroker;
  readonly #mutator;
  readonly #scripts: readonly JobScript[];
  readonly #submitted = new Map<string, JobScript>();
  readonly #cancelled = new Set<string>();
  readonly #blobs: Blobs = new Map();
  readonly #claims = new Map<string, string>();
  readonly #counts = new Map<string, number>();
  readonly #violations: string[] = [];
  readonly #refusals: string[] = [];
  #snapshotText = "";
  #snapshot: Snapshot = emptySnapshot;
  #incarnations = 0;
  #isCalm = false;
  #changedAt = 0;
  #submissionsDone = false;

  constructor(options: SimulationOptions) {
    this.#options = options;
    this.#random = createRandom(options.seed);
    this.#world = new World(this.#random);
    this.#broker = new SimulatedBroker(this.#world, { detectsDuplicates: this.#random.chance(0.4) });
    this.#mutator = createMutator([...closerHints, ...(options.mutations ?? [])]);
    this.#scripts = createScripts(this.#random, options.focus ?? {});
    this.#world.nextChange = () => this.#broker.nextVisibleAt();
    this.#world.onError = (error) => this.#noteError(error);
  }

  async run(): Promise<Simulated> {
    const { database } = this.#options;
    await database.reset();
    await database.setTime(0);
    await database.setStart(-3_600_000);
    for (const script of this.#scripts) this.#world.say(`script ${JSON.stringify(script)}`);
    try {
      this.#startAll();
      await this.#chaos();
      await this.#calm();
      const found = await checkOutcome(database.sql, {
        scripts: this.#submitted,
        cancelled: this.#cancelled,
        claims: this.#claims,
        blobs: this.#blobs,
      });
      this.#violations.push(...found);
    } catch (error) {
      if (!(error instanceof ViolationFound)) throw error;
    }
    for (const process of this.#world.processes) {
      process.onGone.length = 1; // not to be started again
      this.#world.crash(process);
    }
    return {
      violations: this.#violations,
      refusals: this.#refusals,
      trace: this.#world.trace,
      steps: this.#world.steps,
      virtualSeconds: Math.round(this.#world.now / 1000),
      jobs: this.#snapshot.jobs.map(({ status }) => status),
      unmatched: [...this.#mutator.matches].filter(([mutation, count]) => count !== 1 && !closerHints.includes(mutation))
        .map(([{ find }, count]) => `${count}: ${find}`),
    };
  }

  // ---- the processes

  #startAll(): void {
    for (const _ of [1, 2]) this.#start("orchestrator");
    for (const _ of [1, 2]) this.#start("runner");
    this.#start("client");
  }

  #start(role: "orchestrator" | "runner" | "client"): void {
    const name = `${role}-${++this.#incarnations}`;
    const run = { orchestrator: this.#orchestrate, runner: this.#runTasks, client: this.#submitJobs }[role];
    this.#world.start(name, (process) => run.call(this, process), () => {
      if (role === "client" && this.#submissionsDone) return;
      this.#world.schedule(this.#isCalm ? 100 : this.#random.integer(100, 15_000), () => this.#start(role));
    });
  }

  #parts(process: SimulatedProcess) {
    const { database, atomic = true, claimIdInKeys = true } = this.#options;
    const world = this.#world;
    return {
      sql: createSimulatedSql({ world, process, database, mutator: this.#mutator, atomic, written: () => this.#check(process) }),
      id: process.name,
      transports: this.#broker.open(process),
      claimCheck: createSimulatedClaimCheck({
        world,
        process,
        blobs: this.#blobs,
        keyOf: (key) => claimIdInKeys ? key : key.slice(0, key.lastIndexOf("/")),
      }),
      log: pino({ level: "warn", base: null, timestamp: false }, {
        write: (line: string) => world.say(`${process.name} logs ${readLog(line)}`),
      }),
    };
  }

  #effects(process: SimulatedProcess): Effects {
    return {
      kill: () => {
        this.#world.crash(process);
        return new Promise(() => {});
      },
      sleep: async (ms) => {
        await sleep(ms);
      },
      count: (what) => {
        const count = (this.#counts.get(what) ?? 0) + 1;
        this.#counts.set(what, count);
        return count;
      },
    };
  }

  async #orchestrate(process: SimulatedProcess): Promise<void> {
    const effects = this.#effects(process);
    const jobs = createJobCatalog(this.#scripts.map((script) => createScriptedJob(script, effects)));
    await runOrchestrator({ ...this.#parts(process), jobs }, orchestratorConfig, process.stopping.signal);
  }

  async #runTasks(process: SimulatedProcess): Promise<void> {
    const handler = createScriptedHandler(this.#effects(process), ({ taskId, attempt, claimId }) => {
      const key = `${taskId}/${attempt}`;
      if (this.#claims.has(key)) this.#violations.push(`attempt ${attempt} of task ${taskId} ran twice`);
      this.#claims.set(key, claimId);
    });
    const handlers = new Map([[handler.task.type, handler]]);
    await runTaskRunner({ ...this.#parts(process), handlers }, runnerConfig, process.stopping.signal);
  }

  /** Submits each job, perhaps twice, and perhaps cancels it. */
  async #submitJobs(process: SimulatedProcess): Promise<void> {
    const { sql, id, transports, log } = this.#parts(process);
    const { signal } = process.stopping;
    for (const script of this.#scripts) {
      const jobId = createHash("sha256").update(script.type).digest("hex");
      if (!this.#isCalm) await sleep(this.#random.integer(1, 8_000));
      this.#submitted.set(jobId, script);
      const submission = {
        jobId,
        jobType: script.type,
        parameters: {},
        processingPath: "bullmq" as const,
        totalStages: script.stages.length,
        correlationId: "simulation",
      };
      const { batches } = await retryWhileAway(() => submitJob(sql, id, submission), signal);
      await sendBatches({ db: sql, sender: id, transports, log }, batches);
      if (this.#cancelled.has(jobId) || !this.#random.chance(this.#options.focus?.cancels ?? 0.12)) continue;
      this.#cancelled.add(jobId);
      await sleep(this.#random.integer(1, 20_000));
      await retryWhileAway(() => stopJob(sql, { jobId, as: "cancelled", error: null }), signal);
    }
    this.#submissionsDone = true;
  }

  // ---- chaos and calm

  async #chaos(): Promise<void> {
    const random = this.#random;
    const world = this.#world;
    const rate = (most: number) => random.chance(0.3) ? 0 : random.next() * most;
    const cruelty: Cruelty = {
      refused: rate(0.03),
      answerLost: rate(0.04),
      late: rate(0.02),
      crashBefore: rate(0.01),
      crashAfter: rate(0.015),
      stall: rate(0.04),
      held: rate(0.04),
      ...this.#options.focus?.cruelty,
    };
    const brokerCruelty: BrokerCruelty = {
      lost: rate(0.1),
      doubled: rate(0.3),
      delayed: rate(0.2),
      garbled: rate(0.1),
      ...this.#options.focus?.broker,
    };
    world.cruelty = cruelty;
    this.#broker.cruelty = brokerCruelty;
    world.say(`chaos ${JSON.stringify({ ...cruelty, ...brokerCruelty })}`);
    const events: readonly (readonly [probability: number, event: () => void | Promise<void>])[] = [
      [rate(0.01), () => world.crash(random.pick(world.processes))],
      [rate(0.006), () => {
        const process = random.pick(world.processes);
        world.say(`${process.name} is told to stop`);
        process.stopping.abort(new Error("stop"));
      }],
      [rate(0.02), () => world.stall(random.pick(world.processes), random.integer(3_000, 40_000))],
      [rate(0.06), () => void (world.now += random.integer(200, 4_000))],
      [rate(0.006), () => {
        world.now += random.integer(9_000, 30_000);
        world.say("time leaps");
      }],
      [rate(0.02), () => this.#broker.expireLock()],
      [rate(0.004), () => this.#goesAway("broker")],
      [rate(0.004), () => this.#goesAway("database")],
    ];
    const steps = random.integer(150, 500);
    while (world.steps < steps) {
      if (world.processes.length > 0) {
        for (const [probability, event] of events) if (random.chance(probability)) await event();
      }
      await this.#step();
      if (this.#submissionsDone && await this.#allEnded()) return;
    }
  }

  async #goesAway(seam: "broker" | "database"): Promise<void> {
    const ms = this.#random.integer(2_000, 40_000);
    this.#world.awayUntil[seam] = this.#world.now + ms;
    this.#world.say(`the ${seam} is away for ${Math.round(ms / 1000)} s`);
    if (seam === "database") await this.#options.database.setStart(this.#world.now + ms);
  }

  /** Everything works and runs again: every job must end. */
  async #calm(): Promise<void> {
    const world = this.#world;
    this.#isCalm = true;
    world.cruelty = calm;
    this.#broker.cruelty = { lost: 0, doubled: 0, delayed: 0, garbled: 0 };
    for (const process of world.processes) process.stalledUntil = 0;
    world.awayUntil.broker = world.awayUntil.database = 0;
    world.say("calm");
    this.#changedAt = world.now;
    const calmAt = world.now;
    while (!(this.#submissionsDone && await this.#allEnded())) {
      await this.#step();
      if (world.now - this.#changedAt > stillMs || world.now - calmAt > endlessMs) {
        const jobs = await findUnendedJobs(this.#options.database.sql);
        this.#violations.push(`liveness: ${jobs.length} jobs never end`);
        throw new ViolationFound();
      }
    }
  }

  async #step(): Promise<void> {
    if (!await this.#world.step()) throw new Error("nothing can happen any more");
    if (this.#violations.length > 0) throw new ViolationFound();
  }

  async #allEnded(): Promise<boolean> {
    return this.#snapshot.jobs.every(({ status }) => status !== "queued" && status !== "processing" && status !== "stopping");
  }

  // ---- the checks

  #noteError(error: unknown): void {
    if (!(error instanceof Error && "code" in error && typeof error.code === "string")) return;
    if (/^(22|23)/.test(error.code)) this.#refusals.push(error.message);
    else if (/^[0-9A-Z]{5}$/.test(error.code)) this.#violations.push(`a statement is wrong: ${error.message}`);
  }

  async #check({ name }: SimulatedProcess): Promise<void> {
    const { sql } = this.#options.database;
    const text = await readSnapshot(sql);
    if (text === this.#snapshotText) return;
    this.#snapshotText = text;
    const before = this.#snapshot;
    this.#snapshot = JSON.parse(text) as Snapshot;
    const moment = {
      now: epochMs + this.#world.now,
      hungAfterMs: taskTimeoutMs + attemptGraceMs,
      claims: this.#claims,
      by: name,
    };
    const { changes, violations } = compare(before, this.#snapshot, moment);
    if (changes.length > 0) this.#changedAt = this.#world.now;
    for (const change of changes) this.#world.say(`    ${change}`);
    const found = await findViolations(sql);
    this.#violations.push(...violations, ...found.map(({ what, subject }) => `${subject}: ${what}`));
    for (const violation of this.#violations) this.#world.say(`VIOLATION ${violation}`);
  }
}

/** Re-sent hints are at most 80 s apart instead of 21 minutes, so that a hang shows sooner. */
const closerHints: readonly Mutation[] = ["sends - 1", "start_sends - 1", "resends"].map((exponent) => ({
  find: `2 ^ least(${exponent}, 6)`,
  replace: `2 ^ least(${exponent}, 2)`,
}));
/** Nothing but leases changed for so long: a hang. */
const stillMs = 200_000;
/** Something changes again and again, but no end comes. Clean runs need up to five minutes. */
const endlessMs = 1_500_000;

function readLog(line: string): string {
  const { msg, err, reason } = JSON.parse(line) as { msg?: string; err?: { message?: string }; reason?: string };
  return [msg, reason, err?.message].filter(Boolean).join(": ");
}

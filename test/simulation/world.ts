import type { Random } from "./random.ts";
import { type Machine, runOn, whenQuiet } from "./virtual-time.ts";

/** What an await of engine code can wait for outside of itself. */
export type Seam = "database" | "broker" | "claim check";

/** How likely each cruelty is, per operation or step. Each seed has its own, some of them 0. */
export interface Cruelty {
  /** The call fails and had no effect. */
  readonly refused: number;
  /** The call took effect, and fails. */
  readonly answerLost: number;
  /** The call fails now and takes effect later: a statement that waited in the server when its connection was lost. */
  readonly late: number;
  readonly crashBefore: number;
  readonly crashAfter: number;
  /** The process stands still, before or after the call: a zombie in the making. */
  readonly stall: number;
  /** This one call waits, the rest of its process goes on. */
  readonly held: number;
}

export const calm: Cruelty = { refused: 0, answerLost: 0, late: 0, crashBefore: 0, crashAfter: 0, stall: 0, held: 0 };

/** A process of the pipeline: dies at any await, and whatever it waits for then never comes. */
export class SimulatedProcess implements Machine {
  readonly name: string;
  alive = true;
  stalledUntil = 0;
  /** What the process gets as SIGTERM. */
  readonly stopping = new AbortController();
  /** What the machine around it does when it is gone. */
  readonly onGone: (() => void)[] = [];
  readonly #world: World;

  constructor(world: World, name: string) {
    this.#world = world;
    this.name = name;
  }

  now(): number {
    return this.#world.now;
  }

  random(): number {
    return this.#world.random.next();
  }

  startTimer(callback: () => void, ms: number, repeats: boolean): () => void {
    const timer: Timer = { process: this, at: this.#world.now + ms, everyMs: repeats ? ms : null, callback };
    if (this.alive) this.#world.timers.push(timer);
    return () => this.#world.removeTimer(timer);
  }
}

interface Timer {
  readonly process: SimulatedProcess | null;
  at: number;
  readonly everyMs: number | null;
  readonly callback: () => void;
}

interface Operation {
  readonly process: SimulatedProcess;
  readonly seam: Seam;
  readonly label: string;
  /** Whether it could be answered now; a receive waits for messages. */
  readonly isReady: () => boolean;
  readonly execute: () => Promise<unknown>;
  readonly canBeLate: boolean;
  readonly answer: PromiseWithResolvers<unknown>;
  heldUntil: number;
}

/** Something the scheduler may let happen now. */
interface Happening {
  readonly what: string;
  readonly happen: () => Promise<void>;
}

export interface OperationOptions {
  readonly isReady?: () => boolean;
  readonly canBeLate?: boolean;
}

/**
 * All processes on one thread, one thing at a time: engine code runs until each process waits for an operation or a timer, then
 * chance picks the one that happens next, and how. The same seed gives the same run.
 */
export class World {
  now = 0;
  random: Random;
  cruelty: Cruelty = calm;
  /** Until when a seam answers nobody. */
  readonly awayUntil: Record<Seam, number> = { database: 0, broker: 0, "claim check": 0 };
  readonly timers: Timer[] = [];
  readonly trace: string[] = [];
  steps = 0;
  #operations: Operation[] = [];
  /** Answers on their way to stalled processes, and calls whose process was told that they failed. */
  #inFlight: { at: number; process: SimulatedProcess | null; what: string; happen: () => Promise<void> }[] = [];
  readonly #processes: SimulatedProcess[] = [];
  /** When something outside of the processes will change, such as a message becoming visible. */
  nextChange: () => number = () => Infinity;
  /** What an operation that was executed rejected with. */
  onError: (error: unknown) => void = () => {};

  constructor(random: Random) {
    this.random = random;
  }

  say(line: string): void {
    this.trace.push(`${(this.now / 1000).toFixed(3)} ${line}`);
  }

  get processes(): readonly SimulatedProcess[] {
    return this.#processes.filter(({ alive }) => alive);
  }

  /** Starts a process whose main is `run`. When it ends, crashes or throws, `ended` is called, with the error if there is one. */
  start(name: string, run: (process: SimulatedProcess) => Promise<void>, ended: () => void): SimulatedProcess {
    const process = new SimulatedProcess(this, name);
    this.#processes.push(process);
    process.onGone.push(ended);
    this.say(`${name} starts`);
    runOn(process, () => run(process)).then(() => this.#gone(process, "ended"), (error: unknown) => {
      this.#gone(process, `ended with ${error instanceof Error ? error.stack : String(error)}`);
    });
    return process;
  }

  crash(process: SimulatedProcess): void {
    this.#gone(process, "CRASHES");
  }

  #gone(process: SimulatedProcess, how: string): void {
    if (!process.alive) return;
    process.alive = false;
    this.say(`${process.name} ${how}`);
    this.#operations = this.#operations.filter((operation) => operation.process !== process);
    this.#inFlight = this.#inFlight.filter((flying) => flying.process !== process);
    for (const timer of this.timers.filter((one) => one.process === process)) this.removeTimer(timer);
    for (const gone of process.onGone) gone();
  }

  stall(process: SimulatedProcess, ms: number): void {
    process.stalledUntil = this.now + ms;
    this.say(`${process.name} stalls for ${Math.round(ms / 1000)} s`);
  }

  /** Calls back at a time, whatever becomes of the processes. */
  schedule(ms: number, callback: () => void): void {
    this.timers.push({ process: null, at: this.now + ms, everyMs: null, callback });
  }

  removeTimer(timer: Timer): void {
    const position = this.timers.indexOf(timer);
    if (position >= 0) this.timers.splice(position, 1);
  }

  /** What engine code awaits: executed when chance says so, answered then, later, wrongly or never. */
  operate<Result>(
    process: SimulatedProcess,
    seam: Seam,
    label: string,
    execute: () => Promise<Result>,
    { isReady = () => true, canBeLate = false }: OperationOptions = {},
  ): Promise<Result> {
    const answer = Promise.withResolvers<unknown>();
    if (process.alive) {
      this.#operations.push({ process, seam, label, isReady, execute, canBeLate, answer, heldUntil: 0 });
    }
    return answer.promise as Promise<Result>;
  }

  /** Lets one thing happen. False if nothing ever would again. */
  async step(limit = Infinity): Promise<boolean> {
    await whenQuiet();
    const possible = this.#possible();
    if (possible.length === 0) {
      const next = this.#nextMoment();
      if (next === Infinity || next > limit) return false;
      this.now = Math.max(this.now, next);
      return true;
    }
    this.steps++;
    if (this.random.chance(0.7)) this.now += this.random.integer(1, 25);
    await this.random.pick(possible).happen();
    return true;
  }

  #possible(): Happening[] {
    const isFree = (process: SimulatedProcess | null) => process === null || process.stalledUntil <= this.now;
    return [
      ...this.#operations
        .filter(({ process, heldUntil, isReady }) => isFree(process) && heldUntil <= this.now && isReady())
        .map((operation) => ({ what: operation.label, happen: () => this.#operationHappens(operation) })),
      ...this.#inFlight.filter(({ process, at }) => isFree(process) && at <= this.now)
        .map((flying) => ({
          what: flying.what,
          happen: async () => {
            this.#inFlight.splice(this.#inFlight.indexOf(flying), 1);
            await flying.happen();
          },
        })),
      ...this.timers.filter(({ process, at }) => isFree(process) && at <= this.now)
        .map((timer) => ({ what: "timer", happen: async () => this.#timerFires(timer) })),
    ];
  }

  #nextMoment(): number {
    const free = (process: SimulatedProcess | null) => process?.stalledUntil ?? 0;
    return Math.min(
      this.nextChange(),
      ...this.#operations.filter(({ isReady }) => isReady()).map(({ process, heldUntil }) => Math.max(heldUntil, free(process))),
      ...this.#inFlight.map(({ process, at }) => Math.max(at, free(process))),
      ...this.timers.map(({ process, at }) => Math.max(at, free(process))),
    );
  }

  #timerFires(timer: Timer): void {
    if (timer.everyMs === null) this.removeTimer(timer);
    else timer.at = this.now + timer.everyMs;
    if (timer.process) runOn(timer.process, timer.callback);
    else timer.callback();
  }

  async #operationHappens(operation: Operation): Promise<void> {
    const { process, seam, label, answer } = operation;
    const say = (how: string) => this.say(`${process.name} ${label}${how}`);
    const remove = () => (this.#operations = this.#operations.filter((one) => one !== operation));
    const lost = () => answer.reject(connectionLost(seam));
    const { refused, answerLost, late, crashBefore, crashAfter, stall, held } = this.cruelty;
    let throwOfDice = this.random.next();
    const comes = (probability: number) => (throwOfDice -= probability) < 0;

    if (this.awayUntil[seam] > this.now || comes(refused)) {
      remove();
      say(": REFUSED");
      lost();
    } else if (comes(answerLost)) {
      remove();
      say(": done, ANSWER LOST");
      await this.#execute(operation).catch(() => {});
      lost();
    } else if (comes(operation.canBeLate ? late : 0)) {
      remove();
      const ms = this.random.pick([100, 1_000, 8_000, 20_000]);
      say(`: connection lost, will be done in ${ms} ms`);
      this.#inFlight.push({
        at: this.now + ms,
        process: null,
        what: label,
        happen: async () => {
          say(": done late, for nobody");
          await this.#execute(operation).catch(() => {});
        },
      });
      lost();
    } else if (comes(crashBefore)) {
      say(": not begun");
      this.crash(process);
    } else if (comes(crashAfter)) {
      say(": done");
      await this.#execute(operation).catch(() => {});
      this.crash(process);
    } else if (comes(stall)) {
      const ms = this.random.integer(5_000, 60_000);
      if (this.random.chance(0.5)) {
        say(": about to be asked");
        this.stall(process, ms);
        return;
      }
      remove();
      say(": done, not yet noticed");
      const settle = await this.#execute(operation).then(
        (value) => () => answer.resolve(value),
        (error) => () => answer.reject(error),
      );
      this.#inFlight.push({ at: this.now, process, what: label, happen: async () => settle() });
      this.stall(process, ms);
    } else if (comes(held)) {
      operation.heldUntil = this.now + this.random.pick([500, 3_000, 12_000, 25_000]);
      say(`: waits until ${(operation.heldUntil / 1000).toFixed(3)}`);
    } else {
      remove();
      say("");
      await this.#execute(operation).then(answer.resolve, answer.reject);
    }
  }

  async #execute({ execute, process, label }: Operation): Promise<unknown> {
    try {
      return await execute();
    } catch (error) {
      this.say(`${process.name} ${label}: ${error instanceof Error ? error.message : String(error)}`);
      this.onError(error);
      throw error;
    }
  }
}

function connectionLost(seam: Seam): Error {
  const error = new Error(`the connection to the ${seam} was lost`);
  return seam === "database" ? Object.assign(error, { code: "CONNECTION_CLOSED" }) : error;
}

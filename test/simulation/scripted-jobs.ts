import * as v from "valibot";
import { defineHandler, type TaskHandler } from "../../services/task-runner/task-handler.ts";
import { PermanentError } from "../../shared/errors.ts";
import type { TaskOutcome } from "../../shared/contracts/stage-result.ts";
import { defineJob, type JobDefinition } from "../../shared/jobs/define-job.ts";
import { defineTask } from "../../shared/jobs/define-task.ts";
import type { Random } from "./random.ts";

/** What a task does, each time it runs unless it says once. */
export type Behaviour =
  | "ok"
  | "large"
  | "slow"
  | "fails once"
  | "fails twice"
  | "fails"
  | "permanent"
  | "hangs once"
  | "kills once"
  | "kills";
type Step = "plan" | "reduce" | "decide" | "finalize";

export interface StageScript {
  readonly behaviours: readonly Behaviour[];
  readonly tasksPerMessage: number;
  readonly tolerate: number;
  /** How often each step throws before it doesn't; Infinity: always. */
  readonly throws: Readonly<Partial<Record<Step, number>>>;
  /** How long plan and reduce take. */
  readonly takesMs: Readonly<Record<"plan" | "reduce", number>>;
  /** How often plan or reduce kill their process. */
  readonly kills: Readonly<Partial<Record<"plan" | "reduce", number>>>;
  readonly decides: "default" | "retry once" | "retry always" | "complete" | "fail" | "advance";
}

export interface JobScript {
  readonly type: string;
  readonly stages: readonly [StageScript, ...StageScript[]];
}

export const maxFailures = 3;
export const taskTimeoutMs = 20_000;

/** What a run is to be about, instead of whatever chance has. */
export interface ScriptFocus {
  readonly behaviours?: readonly Behaviour[];
  readonly decides?: StageScript["decides"];
  readonly takesMs?: number;
  /** A stage of more tasks than one insert carries. */
  readonly wide?: boolean;
}

export function createScripts(random: Random, focus: ScriptFocus): readonly JobScript[] {
  const behaviour = (): Behaviour => {
    if (focus.behaviours) return random.pick(focus.behaviours);
    const dice = random.next();
    if (dice < 0.3) return "ok";
    if (dice < 0.4) return "large";
    if (dice < 0.72) return "slow";
    if (dice < 0.84) return "fails once";
    if (dice < 0.88) return "fails twice";
    if (dice < 0.91) return "fails";
    if (dice < 0.93) return "permanent";
    if (dice < 0.95) return "hangs once";
    return dice < 0.98 ? "kills once" : "kills";
  };
  const times = (): number => random.chance(0.92) ? 0 : random.chance(0.85) ? random.integer(1, 2) : Infinity;
  const duration = (): number => random.chance(0.7) ? 0 : random.integer(1_000, 12_000);
  const stage = (): StageScript => ({
    behaviours: Array.from({ length: random.integer(0, 7) }, behaviour),
    tasksPerMessage: random.integer(1, 3),
    tolerate: random.integer(0, 4),
    throws: { plan: times(), reduce: times(), decide: times(), finalize: times() },
    takesMs: { plan: focus.takesMs ?? duration(), reduce: focus.takesMs ?? duration() },
    kills: { plan: random.chance(0.05) ? random.integer(1, 4) : 0, reduce: random.chance(0.05) ? random.integer(1, 4) : 0 },
    decides: focus.decides ?? random.pick([
      "default",
      "default",
      "default",
      "retry once",
      "retry once",
      "retry always",
      "complete",
      "fail",
      "advance",
    ]),
  });
  const wide = focus.wide ?? random.chance(0.05);
  return Array.from({ length: random.integer(1, 3) }, (_, position) => {
    const stages = Array.from({ length: random.integer(1, 2) }, stage);
    const first = wide && position === 0
      ? {
        ...stage(),
        behaviours: Array.from({ length: 120 }, () => "ok" as const),
        tasksPerMessage: 1,
        decides: "default" as const,
      }
      : stage();
    return { type: `job_${position + 1}`, stages: [first, ...stages] };
  });
}

/** What scripted code does to the world around it. */
export interface Effects {
  /** The process that runs this code dies at once. */
  kill(): Promise<never>;
  sleep(ms: number): Promise<void>;
  /** Counts, over all processes, how often something happened: 1 the first time. */
  count(what: string): number;
}

export const TaskParameters = v.object({
  job: v.string(),
  stage: v.number(),
  index: v.number(),
  behaviour: v.string(),
  value: v.number(),
});
export type TaskParameters = v.InferOutput<typeof TaskParameters>;

/** The claim, so that a result can be told from that of another attempt. */
export const TaskResult = v.object({ value: v.number(), claim: v.string(), padding: v.optional(v.string()) });
export type TaskResult = v.InferOutput<typeof TaskResult>;

/** What a task has to compute. */
export function valueOf({ value, stage, index }: TaskParameters): number {
  return (value * 31 + stage * 7 + index + 1) % 100_003;
}

/** The parameters that a stage must have planned after these outcomes of the stage before. */
export function planOf(
  script: JobScript,
  stageNumber: number,
  earlier: readonly Pick<TaskOutcome, "result">[],
): TaskParameters[] {
  const behaviours = script.stages[stageNumber - 1]?.behaviours ?? [];
  return behaviours.map((behaviour, index) => {
    const value = earlier[index % Math.max(1, earlier.length)]?.result?.value;
    return { job: script.type, stage: stageNumber, index, behaviour, value: typeof value === "number" ? value : index };
  });
}

export function sumOf(outcomes: readonly Pick<TaskOutcome, "result">[]): number {
  return outcomes.reduce((sum, { result }) => sum + (typeof result?.value === "number" ? result.value : 0), 0);
}

class ScriptedError extends Error {
  override readonly name = "ScriptedError";
}

const scriptedTask = defineTask({
  type: "scripted",
  params: TaskParameters,
  result: TaskResult,
  retry: { maxFailures, backoffMs: 2_000, maxBackoffMs: 8_000 },
  timeoutMs: taskTimeoutMs,
});

export function createScriptedJob(script: JobScript, effects: Effects): JobDefinition {
  /** Throws, or kills its process, as often as the script says. */
  async function suffer(step: Step, number: number, jobId: string): Promise<void> {
    const stage = script.stages[number - 1];
    const kills = step === "plan" || step === "reduce" ? stage?.kills[step] ?? 0 : 0;
    if (kills > 0 && effects.count(`${jobId} ${number} ${step} kills`) <= kills) await effects.kill();
    sufferSync(step, number, jobId);
  }
  function sufferSync(step: Step, number: number, jobId: string): void {
    const throws = script.stages[number - 1]?.throws[step] ?? 0;
    if (throws > 0 && effects.count(`${jobId} ${number} ${step} throws`) <= throws) {
      throw new ScriptedError(`${step} of stage ${number} throws`);
    }
  }
  const stages = script.stages.map((stage, position) => ({
    name: `stage-${position + 1}`,
    task: scriptedTask,
    tasksPerMessage: stage.tasksPerMessage,
    tolerate: { count: stage.tolerate },
    async *plan({ jobId, earlier }: Parameters<JobDefinition["stages"][0]["plan"]>[0]) {
      const number = position + 1;
      const outcomes: TaskOutcome[] = [];
      for await (const outcome of earlier.at(-1)?.outcomes() ?? []) outcomes.push(outcome);
      for (const parameters of planOf(script, number, outcomes)) {
        if (parameters.index % 110 === 0 && stage.takesMs.plan > 0) await effects.sleep(stage.takesMs.plan);
        if (parameters.index === Math.min(2, stage.behaviours.length - 1)) await suffer("plan", number, jobId);
        yield parameters;
      }
      if (stage.behaviours.length === 0) await suffer("plan", number, jobId);
    },
    async reduce({ jobId, outcomes }: { jobId: string; outcomes(): AsyncIterable<TaskOutcome> }) {
      const read: TaskOutcome[] = [];
      for await (const outcome of outcomes()) read.push(outcome);
      if (stage.takesMs.reduce > 0) await effects.sleep(stage.takesMs.reduce);
      await suffer("reduce", position + 1, jobId);
      return { sum: sumOf(read), tasks: read.length };
    },
    decide({ failed_tasks }: { failed_tasks: number }, { jobId }: { jobId: string }) {
      sufferSync("decide", position + 1, jobId);
      const isFirst = effects.count(`${jobId} ${position + 1} decided`) === 1;
      switch (stage.decides) {
        case "retry once":
          return isFirst || failed_tasks > stage.tolerate
            ? { action: "retry_stage" as const, reason: "scripted" }
            : { action: "advance" as const };
        case "retry always":
          return { action: "retry_stage" as const, reason: "scripted" };
        case "complete":
          return { action: "complete_job" as const };
        case "fail":
          return { action: "fail_job" as const, reason: "scripted" };
        default:
          return { action: "advance" as const };
      }
    },
  }));
  const [first, ...others] = stages;
  if (!first) throw new Error("a job has a stage");
  return defineJob({
    type: script.type,
    description: "scripted",
    params: v.object({}),
    stages: [first, ...others],
    finalize({ jobId, earlier }) {
      sufferSync("finalize", earlier.length, jobId);
      return { sums: earlier.map(({ result }) => result.metadata.sum) };
    },
  });
}

/** The code of the scripted tasks. `ran` is told of each attempt that begins. */
export function createScriptedHandler(
  effects: Effects,
  ran: (task: { taskId: number; attempt: number; claimId: string }) => void,
): TaskHandler {
  return defineHandler(scriptedTask, async (parameters, { taskId, attempt, claimId }) => {
    ran({ taskId, attempt, claimId });
    const time = effects.count(`task ${taskId}`);
    const result = { value: valueOf(parameters), claim: claimId };
    switch (parameters.behaviour) {
      case "large":
        return { ...result, padding: "x".repeat(66_000) };
      case "slow":
        await effects.sleep(2_000 + parameters.index * 2_000);
        return result;
      case "fails once":
      case "fails twice":
        if (time <= (parameters.behaviour === "fails once" ? 1 : 2)) throw new ScriptedError(`task fails for the time ${time}`);
        return result;
      case "fails":
        throw new ScriptedError("task fails");
      case "permanent":
        throw new PermanentError("task-failed", "task fails for good");
      case "hangs once":
        if (time === 1) await effects.sleep(60_000);
        return result;
      case "kills once":
        return time === 1 ? await effects.kill() : result;
      case "kills":
        return await effects.kill();
      default:
        return result;
    }
  });
}

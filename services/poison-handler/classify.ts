import type { ErrorRecord } from "../../shared/errors.ts";
import { maxPoisonings, type PoisonAction } from "../../shared/store/poison-actions.ts";
import type { PoisonFacts, PoisonTaskFacts, Verdict } from "../../shared/store/poison.ts";

export interface Ruling {
  readonly verdict: Verdict;
  /** What is to be done with it, in the transaction that writes the verdict. */
  readonly action?: PoisonAction;
  /** The one task that it is about. */
  readonly task?: PoisonTaskFacts;
}

/**
 * Judges a poison message by its rows alone: how often it was delivered says nothing, as a database that was away, or a lock that
 * expired in a buffer, burns deliveries of innocent messages (docs/protocol.md, rules 15 to 17). Leases that have expired are left
 * to the sweep, which knows when they mean nothing.
 */
export function classify(facts: PoisonFacts): Ruling {
  if (facts.origin === "row") return { verdict: facts.error?.code === "interrupted" ? "unhandled" : "expected" };
  switch (facts.kind) {
    case null:
      return classifyUnreadable(facts);
    case "tasks":
      return classifyTasks(facts);
    case "stage":
      return classifyStage(facts);
    case "start-job":
      return classifyStart(facts);
  }
}

/** Nothing is failed, or counted, on the word of a damaged message; what it may have hinted at is hinted again. */
function classifyUnreadable(facts: PoisonFacts): Ruling {
  const { job, stage, stageId, tasks } = facts;
  const waiting = job?.status === "processing" && stage && !stage.discarded ? tasks.filter(isHintedBy(facts)) : [];
  if (waiting.length === 0 || stageId === null) return { verdict: "unreadable" };
  return { verdict: "unreadable", action: { act: "resend-tasks", stageId, run: null, tasks: waiting, counted: false } };
}

function classifyTasks(facts: PoisonFacts): Ruling {
  const { job, stage, stageId, run, tasks, tasksNamed, outboxId } = facts;
  const [first] = tasks;
  if (!job || !stage || stageId === null || !first) return { verdict: "orphan" };
  const only = tasksNamed === 1 ? { task: first } : {};
  if (stage.discarded || stage.run !== run) return { verdict: "stale", ...only };
  if (tasks.some(({ status }) => status === "pending")) {
    const waiting = job.status === "processing" ? tasks.filter(isHintedBy(facts)) : [];
    if (waiting.length === 0) return { verdict: "stale", ...only };
    const resend = { act: "resend-tasks", stageId, run, tasks: waiting } as const;
    if (tasksNamed > 1) return { verdict: "split", action: { ...resend, counted: false } };
    // A copy under an id that isn't ours may be anybody's: it is no evidence against the row.
    const counted = outboxId !== null;
    if (!counted || first.poisonings + 1 < maxPoisonings) {
      return { verdict: "recovered", action: { ...resend, counted }, ...only };
    }
    return {
      verdict: "unhandled",
      action: { act: "fail-task", taskId: first.taskId, outboxId: first.outboxId, error: unhandled(facts) },
      ...only,
    };
  }
  const running = tasks.filter(({ status }) => status === "processing");
  if (running.length > 0) {
    return { verdict: running.some(({ lease }) => lease === "live") ? "alive" : "recovered", ...only };
  }
  if (tasks.some(({ status }) => status === "failed")) return { verdict: "expected", ...only };
  return { verdict: tasks.some(({ status }) => status === "completed") ? "contradiction" : "stale", ...only };
}

function classifyStage(facts: PoisonFacts): Ruling {
  const { job, stage, stageId, run, jobId, outboxId } = facts;
  if (!job || !stage || stageId === null || jobId === null || run === null) return { verdict: "orphan" };
  if (stage.discarded || stage.run !== run) return { verdict: "stale" };
  switch (stage.status) {
    case "completed":
      return { verdict: "contradiction" };
    case "failed":
      return { verdict: "expected" };
    case "cancelled":
    case "open": // it was planned: what it hinted at is done
      return { verdict: "stale" };
    case "planning":
    case "reducing": {
      if (stage.lease !== null) return { verdict: stage.lease === "live" ? "alive" : "recovered" };
      if (job.status !== "processing" || !facts.isNewestHint) return { verdict: "stale" };
      const counted = outboxId !== null;
      if (!counted || stage.poisonings + 1 < maxPoisonings) {
        return { verdict: "recovered", action: { act: "resend-stage", stageId, run, counted } };
      }
      const action = { act: "fail-job", jobId, run: job.run, stage: { stageId, run }, error: unhandled(facts) } as const;
      return { verdict: "unhandled", action };
    }
  }
}

function classifyStart(facts: PoisonFacts): Ruling {
  const { job, jobId, run, outboxId } = facts;
  if (!job || jobId === null || run === null) return { verdict: "orphan" };
  if (job.run !== run) return { verdict: "stale" };
  switch (job.status) {
    case "queued": {
      if (!facts.isNewestHint) return { verdict: "stale" };
      const counted = outboxId !== null;
      if (!counted || job.poisonings + 1 < maxPoisonings) {
        return { verdict: "recovered", action: { act: "resend-start", jobId, run, counted } };
      }
      return { verdict: "unhandled", action: { act: "fail-job", jobId, run, stage: null, error: unhandled(facts) } };
    }
    case "processing":
    case "stopping":
      return { verdict: "alive" };
    case "completed":
    case "completed_with_errors":
      return { verdict: "contradiction" };
    case "failed":
      return { verdict: "expected" };
    case "cancelled":
      return { verdict: "stale" };
  }
}

/** Tasks that wait for a hint, and whose newest one was this message, as far as its id tells. */
function isHintedBy({ outboxId }: PoisonFacts): (task: PoisonTaskFacts) => boolean {
  return (task) => task.status === "pending" && !task.isUnsent && (outboxId === null || task.outboxId === outboxId);
}

function unhandled({ reason, description }: PoisonFacts): ErrorRecord {
  return { code: "unhandled-poison", message: `UNHANDLED POISON: ${reason}: ${description}`.slice(0, 2_000) };
}

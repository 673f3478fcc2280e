import type { ListedGroup } from "../../shared/store/poison-listings.ts";

/** Whether trying again helps, by what became of tasks that were tried again, or by what the error says of itself. */
export type Nature = "transient" | "permanent" | "unknown";

/** Codes that say that the same work fails the same way again. */
const permanentCodes: readonly string[] = [
  "invalid-message",
  "unknown-job",
  "unknown-task",
  "unknown-type",
  "contract-violation",
  "task-failed",
  "invalid-configuration",
];

/** One success is proof, whatever the code says. */
export function natureOf(
  { code, succeeded_later, failed_again }: Pick<ListedGroup, "code" | "succeeded_later" | "failed_again">,
): Nature {
  if (succeeded_later > 0) return "transient";
  return permanentCodes.includes(code) || failed_again > 0 ? "permanent" : "unknown";
}

type Evidence = Pick<
  ListedGroup,
  "code" | "state" | "verdicts" | "task_type" | "at" | "tried_again" | "succeeded_later" | "failed_again"
>;

/** What an operator should do about a group of failures. */
export function suggestAction(group: Evidence): string {
  const { code, state, verdicts, task_type, at, tried_again, succeeded_later, failed_again } = group;
  if (state === "resolved") return "Nothing: it was resolved and has not come back.";
  const has = (verdict: string) => (verdicts[verdict] ?? 0) > 0;
  const only = (...names: readonly string[]) => Object.keys(verdicts).every((name) => names.includes(name));
  switch (code) {
    case "invalid-message":
      return "Find out who sends to this queue: the body is none of ours. Nothing was failed by it; discard it.";
    case "unknown-job":
    case "unknown-task":
      return "Discard it: its rows are gone, as after a redeploy of the schema.";
    case "unknown-type":
      return `Deploy a task-runner that knows ${task_type ?? "the type"}, then redrive.`;
    case "contract-violation":
      return `Compare what ${task_type ?? "the task"} takes or gives with its schema, deploy the fix, then redrive.`;
    case "interrupted":
      return "Look at the memory and the last lines of the runners that died: redriving kills more of them.";
    case "timed-out":
      return `See what ${task_type ?? "the task"} waits for; raise its time-out, or make the tasks smaller, then redrive.`;
    case "deadline-exceeded":
      return "Add runners, or give the stage a later deadline, then retry the job.";
  }
  if (Object.keys(verdicts).length > 0 && only("contradiction", "alive", "stale", "recovered", "split")) {
    return has("contradiction")
      ? "Nothing is lost: the work completed. If it goes on, see why messages are settled late: locks that expire, runners that are killed."
      : "Nothing: the rows go on by themselves.";
  }
  if (only("orphan") && has("orphan")) return "Discard it: its rows are gone, as after a redeploy of the schema.";
  if (succeeded_later > 0) return `Redrive: ${succeeded_later} of ${tried_again} tasks that were tried again completed.`;
  const place = at === null ? "" : ` in ${at}`;
  if (failed_again > 0) {
    return `Fix the cause${place} first: ${failed_again} of ${tried_again} tasks that were tried again failed again.`;
  }
  if (natureOf(group) === "permanent") return `Fix the cause${place}, then redrive: the task says that trying again is no use.`;
  if (has("unhandled")) {
    return "See the log of the runners for why hints die unsettled, then redrive one of them, and the rest if it completes.";
  }
  return "Redrive one of them, and the rest if it completes.";
}

import type { FindingKind, ReconciliationRun } from "../../../shared/contracts/reconciliation.ts";
import type { Report } from "../../../shared/contracts/report.ts";
import type { ListedGroup } from "../../../shared/store/poison-listings.ts";
import type { BlockedJob, ComparedFinding } from "../../../shared/store/report.ts";
import type { Redact } from "../redact.ts";
import { natureOf, suggestAction } from "../suggest-action.ts";

export interface ReportParts {
  readonly run: ReconciliationRun;
  readonly findings: readonly ComparedFinding[];
  readonly gone: readonly ComparedFinding[];
  readonly groups: readonly (ListedGroup & { readonly messages_in_window: number })[];
  readonly blocked: { readonly total: number; readonly jobs: readonly BlockedJob[] };
  readonly nextCursor: string | null;
  readonly redact: Redact;
}

/** Kinds that mean that something isn't there any more. Whatever else is wrong, the rows know of the work and it can go on. */
const missingKinds: readonly FindingKind[] = ["index-gap", "result-missing", "orphan-task"];
/** So that the answers fit the first screen of a phone. */
const maxActions = 4;
const maxPlace = 90;

export function buildReport({ run, findings, gone, groups, blocked, nextCursor, redact }: ReportParts): Report {
  const described = groups.map((group) => ({
    fingerprint: group.fingerprint,
    code: group.code,
    message: redact(group.message),
    at: group.at,
    task_type: group.task_type,
    stage_name: group.stage_name,
    messages: group.messages_in_window,
    state: group.state,
    nature: natureOf(group),
    action: suggestAction(group),
  }));
  return {
    ...run,
    findings: [...findings],
    next_cursor: nextCursor,
    gone: [...gone],
    answers: {
      lost: answerLost(run),
      failing: answerFailing(described),
      blocked: answerBlocked(blocked),
      actions: listActions(run, findings, described),
    },
    groups: described,
    blocked_jobs: { total: blocked.total, jobs: [...blocked.jobs] },
  };
}

function answerLost({ status, error, summary }: ReconciliationRun): Report["answers"]["lost"] {
  if (status === "failed") return { status: "unknown", text: `Unknown: the run failed (${error?.message ?? "no error"}).` };
  if (!summary) return { status: "unknown", text: `Unknown: the run is ${status}.` };
  const left = (kinds: readonly string[]) =>
    kinds.reduce((sum, kind) => sum + (summary.kinds[kind]?.found ?? 0) - (summary.kinds[kind]?.repaired ?? 0), 0);
  const missing = left(missingKinds);
  const names = (kinds: readonly string[]) => kinds.filter((kind) => left([kind]) > 0).join(", ");
  if (missing > 0) return { status: "yes", text: `Yes: ${count(missing, "thing")} missing (${names(missingKinds)}).` };
  const skipped = summary.checks.filter((check) => check.skipped !== null).map(({ name }) => name);
  const unanswered = skipped.length > 0 ? ` Not checked: ${skipped.join(", ")}.` : "";
  const errors = (summary.severities.error ?? 0) - summary.repaired;
  if (errors > 0) {
    return {
      status: "stuck",
      text: `Nothing is missing, but ${count(errors, "thing")} won't go on without help.${unanswered}`,
    };
  }
  const { rows } = summary;
  const checked = `${count(rows.tasks, "task")} of ${count(rows.jobs, "job")} balance`;
  return skipped.length > 0
    ? { status: "unknown", text: `Nothing was found missing; ${checked}.${unanswered}` }
    : { status: "no", text: `No: ${checked}.` };
}

function answerFailing([first, ...rest]: Report["groups"]): string {
  if (!first) return "Nothing died in the day before.";
  const { code, task_type, messages, state, nature } = first;
  const where = task_type === null ? "" : ` in ${task_type}`;
  const kind = nature === "unknown" ? state : `${state}, ${nature}`;
  const place = first.at ?? first.message;
  const shown = place.length <= maxPlace ? place : `${place.slice(0, maxPlace).toWellFormed()}…`;
  const others = rest.length > 0 ? ` ${count(rest.length, "other group")} below.` : "";
  return `${code}${where}: ${count(messages, "message")} in a day, ${kind}. ${shown}${/[.!?…]$/.test(shown) ? "" : "."}${others}`;
}

function answerBlocked({ total, jobs }: ReportParts["blocked"]): string {
  if (total === 0) return "No job.";
  const failed = jobs.filter(({ status }) => status === "failed").length;
  const split = jobs.length < total
    ? `${failed} of the first ${jobs.length} failed`
    : `${failed} failed, ${total - failed} still open`;
  return `${count(total, "job")}: ${split}.`;
}

const ranks = { error: 0, warning: 1, info: 2 } as const;

/** The most urgent first: what the findings of the worst kinds call for, then what the groups do. Each once. */
function listActions(
  { summary, mode }: ReconciliationRun,
  findings: readonly ComparedFinding[],
  groups: Report["groups"],
): string[] {
  const actions = new Map<string, string>();
  const repairable = findings.filter((finding) => finding.repairable && finding.repaired_at === null).length;
  if (mode === "dry-run" && repairable > 0) {
    actions.set(
      "apply",
      `Repair what can be: a run with "mode": "apply" mends ${repairable.toLocaleString("en")} of these findings.`,
    );
  }
  const urgent = findings.filter(({ severity, repaired_at, repairable }) =>
    severity !== "info" && repaired_at === null && !repairable
  )
    .toSorted((one, other) => ranks[one.severity] - ranks[other.severity]);
  for (const { kind, suggested_action } of urgent) {
    const found = summary?.kinds[kind]?.found ?? 0;
    if (!actions.has(kind)) actions.set(kind, `${kind} (${found.toLocaleString("en")}): ${suggested_action}`);
  }
  for (const { fingerprint, code, messages, state, action } of groups) {
    if (state !== "resolved") actions.set(fingerprint, `${code} (${messages.toLocaleString("en")}): ${action}`);
  }
  return actions.size === 0 ? ["Nothing."] : [...actions.values()].slice(0, maxActions);
}

function count(number: number, noun: string): string {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

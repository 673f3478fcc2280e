import type { Report } from "../../../shared/contracts/report.ts";

export interface PageOptions {
  readonly formatTime: (iso: string) => string;
  /** As the client named it. */
  readonly timeZone: string;
  /** Findings beyond these are left out, which the page says. */
  readonly maxFindings: number;
}

export function renderMarkdown(report: Report, { formatTime, timeZone, maxFindings }: PageOptions): string {
  const { answers, summary, findings, gone, groups, blocked_jobs } = report;
  const at = report.finished_at ?? report.started_at ?? report.requested_at;
  const lines = [
    `# Reconciliation run ${report.run_id}`,
    "",
    `${text(report.status)}, ${report.mode}, ${formatTime(at)} (${text(timeZone)})`,
    "",
    `**Is anything lost?** ${text(answers.lost.text)}`,
    "",
    `**What fails most?** ${text(answers.failing)}`,
    "",
    `**What is blocked by it?** ${text(answers.blocked)}`,
    "",
    "**What should I do?**",
    "",
    ...answers.actions.map((action, index) => `${index + 1}. ${text(action)}`),
    "",
    "## Kinds of findings",
    "",
    ...table(
      ["kind", "found", "repaired", "new", "gone"],
      Object.entries(summary?.kinds ?? {}).map(([kind, counts]) => [
        kind,
        counts.found,
        counts.repaired,
        ...(report.previous_run === null ? ["", ""] : [counts.appeared, counts.gone]),
      ]),
    ),
    "## What fails most, in the day before",
    "",
    ...table(
      ["messages", "code", "where", "state", "nature", "what to do", "fingerprint"],
      groups.map((group) => [
        group.messages,
        group.code,
        [group.task_type, group.stage_name, group.at ?? group.message].filter((part) => part !== null).join(", "),
        group.state,
        group.nature,
        group.action,
        group.fingerprint,
      ]),
    ),
    `## Jobs that are blocked: ${blocked_jobs.total}`,
    "",
    ...table(
      ["job", "type", "status", "stage", "failed tasks", "open tasks", "messages", "group"],
      blocked_jobs.jobs.map((job) => [
        job.job_id,
        job.job_type,
        job.status,
        `${job.stage} of ${job.total_stages}`,
        job.failed_tasks,
        job.open_tasks,
        job.messages,
        job.fingerprint,
      ]),
    ),
    `## Findings: ${summary?.findings ?? findings.length}`,
    "",
    ...table(
      ["severity", "", "kind", "what", "what to do", "repaired"],
      [...findings, ...gone].slice(0, maxFindings).map((finding) => [
        finding.severity,
        finding.difference ?? "",
        finding.kind,
        finding.message,
        finding.suggested_action,
        finding.repaired_at === null ? "" : formatTime(finding.repaired_at),
      ]),
    ),
    ...(findings.length + gone.length > maxFindings
      ? [`${findings.length + gone.length - maxFindings} more: see the CSV.`, ""]
      : []),
  ];
  return lines.join("\n");
}

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): readonly string[] {
  if (rows.length === 0) return ["None.", ""];
  const line = (cells: readonly (string | number)[]) => `| ${cells.map((cell) => text(String(cell))).join(" | ")} |`;
  return [line(head), `| ${head.map(() => "---").join(" | ")} |`, ...rows.map(line), ""];
}

/** One line that means itself, whatever it says. */
function text(value: string): string {
  return value.replace(/\s+/g, " ").replaceAll("&", "&amp;").replace(/[\\`*_{}[\]<>|#~$]/g, "\\$&");
}

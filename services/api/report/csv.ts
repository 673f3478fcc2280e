import type { Report } from "../../../shared/contracts/report.ts";

const columns = [
  "finding_id",
  "difference",
  "severity",
  "kind",
  "subject_type",
  "subject_id",
  "job_id",
  "stage_id",
  "task_id",
  "transport",
  "queue",
  "message",
  "suggested_action",
  "repairable",
  "repaired_at",
] as const;

/** The findings of a report, and those that are gone, as RFC 4180 has it. No cell is a formula to a spreadsheet. */
export function renderCsv({ findings, gone }: Report, formatTime: (iso: string) => string): string {
  const rows = [...findings, ...gone].map((finding) =>
    columns.map((column) => {
      const value = finding[column];
      return cell(column === "repaired_at" && typeof value === "string" ? formatTime(value) : value);
    })
  );
  return [columns, ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

function cell(value: string | number | boolean | null): string {
  if (typeof value !== "string") return value === null ? "" : String(value);
  const text = /^[=+\-@\t\r\n＝＋－＠]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

import { html, raw } from "hono/html";
import type { KindCounts } from "../../../shared/contracts/reconciliation.ts";
import type { Report } from "../../../shared/contracts/report.ts";
import type { PageOptions } from "./markdown.ts";

const style = `
:root { color-scheme: light dark; --text: #1c2733; --faint: #53637a; --line: #d7dfe8; --back: #fff; --card: #f4f7fa;
  --no: #1d7a46; --stuck: #a15c00; --yes: #b3261e; --unknown: #53637a }
@media (prefers-color-scheme: dark) { :root { --text: #e4eaf1; --faint: #9fb0c3; --line: #33404e; --back: #12181f; --card: #1b232c;
  --no: #5fd396; --stuck: #f0ad4e; --yes: #ff8a80; --unknown: #9fb0c3 } }
* { box-sizing: border-box }
body { font: 16px/1.45 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 0 auto; max-width: 80rem;
  padding: 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.35rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem } p { margin: .3rem 0 }
small, th { color: var(--faint) }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); gap: .75rem; margin-top: 1rem }
.answers section { background: var(--card); border: 1px solid var(--line); border-left: .35rem solid var(--unknown); border-radius: .4rem;
  padding: .6rem .8rem }
.answers h2 { font-size: .85rem; font-weight: 600; color: var(--faint); margin: 0 0 .2rem } .answers ol { margin: 0; padding-left: 1.2rem }
.answers .no { border-left-color: var(--no) } .answers .stuck { border-left-color: var(--stuck) } .answers .yes { border-left-color: var(--yes) }
.lead { font-weight: 600; font-size: 1.1rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem }
th, td { text-align: left; vertical-align: top; padding: .35rem 1rem .35rem 0; border-bottom: 1px solid var(--line) }
th { font-weight: 600; white-space: nowrap } .count { text-align: right }
td { overflow-wrap: break-word } td.wide { min-width: 14rem; overflow-wrap: anywhere }
code { font: .85em ui-monospace, monospace }
.error { color: var(--yes) } .warning { color: var(--stuck) } .gone { color: var(--faint) }
a { color: inherit }
@media screen and (max-width: 45rem) {
  body { font-size: 15px; padding: .6rem } .answers { gap: .4rem; margin-top: .6rem } .answers section { padding: .35rem .6rem }
  .lead { font-size: 1rem } h1 { font-size: 1.15rem }
  table, tbody { display: block } thead { display: none } tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line) }
  td, td.count { display: flex; gap: .5rem; border: 0; padding: .1rem 0; text-align: left; overflow-wrap: anywhere } td.wide { min-width: 0 }
  td::before { content: attr(data-name); flex: 0 0 6.5rem; color: var(--faint) } td > * { min-width: 0 } td:empty { display: none }
}
@media print {
  :root { color-scheme: light; --text: #000; --faint: #444; --line: #bbb; --back: #fff; --card: #fff }
  body { max-width: none; padding: 0; font-size: 10pt } tr, .answers section { break-inside: avoid } h2 { break-after: avoid }
  .scroll { overflow: visible } nav { display: none } th { white-space: normal } td { padding-right: .5rem } td.wide { min-width: 0; width: 34% }
  table { width: 100%; font-size: 8.5pt }
}`;

type Content = string | number | ReturnType<typeof html>;
interface Column<Row> {
  readonly name: string;
  readonly class?: "count" | "wide";
  readonly cell: (row: Row) => Content;
}

/** A page of its own: nothing comes from elsewhere, no script runs, and it can be printed and kept. */
export function renderHtml(report: Report, { formatTime, timeZone, maxFindings }: PageOptions) {
  const { answers, summary, groups, blocked_jobs, previous_run } = report;
  const at = report.finished_at ?? report.started_at ?? report.requested_at;
  const findings = [...report.findings, ...report.gone];
  const found = summary?.findings ?? report.findings.length;
  const compared = <Row>(...columns: readonly Column<Row>[]) => previous_run === null ? [] : columns;
  const query = `tz=${encodeURIComponent(timeZone)}`;
  const link = (path: string, text: string) => html`<a href="${path}">${text}</a>`;
  return html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>Sluice: reconciliation run ${report.run_id}</title>
        <style>${raw(style)}</style>
      </head>
      <body>
    <h1>Reconciliation run ${report.run_id}</h1>
    <p><small>${report.status}, ${report.mode}, ${time(formatTime(at))} (${timeZone})${previous_run === null
      ? ""
      : html`, compared with ${link(`${previous_run}?format=html&${query}`, `run ${previous_run}`)}`}</small></p>
    <div class="answers">
    <section class="${answers.lost.status}"><h2>Is anything lost?</h2><p class="lead">${answers.lost.text}</p></section>
    <section><h2>What fails most?</h2><p>${answers.failing}</p></section>
    <section><h2>What is blocked by it?</h2><p>${answers.blocked}</p></section>
    <section><h2>What should I do?</h2><ol>${answers.actions.map((action) => html`<li>${action}</li>`)}</ol></section>
    </div>
    <nav><p><small>${["json", "markdown", "csv"].map((format) =>
      html`
        ${link(`${report.run_id}?format=${format}&${query}`, format)}
      `
    )}</small></p></nav>
    <h2>Kinds of findings</h2>
    ${table(Object.entries(summary?.kinds ?? {}), [
      { name: "kind", cell: ([kind]) => kind },
      { name: "found", class: "count", cell: ([, { found }]) => found },
      { name: "repaired", class: "count", cell: ([, { repaired }]) => repaired },
      ...compared<readonly [string, KindCounts]>(
        { name: "new", class: "count", cell: ([, { appeared }]) => appeared },
        { name: "gone", class: "count", cell: ([, { gone }]) => gone },
      ),
    ])}
    <h2>What fails most, in the day before</h2>
    ${table(groups, [
      { name: "messages", class: "count", cell: ({ messages }) => messages },
      { name: "failure", class: "wide", cell: ({ code, at, message }) => html`<b>${code}</b> ${at ?? message}` },
      { name: "where", cell: (group) => [group.task_type, group.stage_name].filter((part) => part !== null).join(", ") },
      { name: "state", cell: ({ state, nature }) => `${state}, ${nature}` },
      { name: "what to do", class: "wide", cell: ({ action }) => action },
      {
        name: "group",
        cell: ({ fingerprint }) => html`<code>${link(`/api/poison/messages?fingerprint=${fingerprint}`, fingerprint)}</code>`,
      },
    ])}
    <h2>Jobs that are blocked: ${blocked_jobs.total}</h2>
    ${table(blocked_jobs.jobs, [
      { name: "job", cell: ({ job_id }) => html`<code>${link(`/api/jobs/status/${job_id}`, `${job_id.slice(0, 12)}…`)}</code>` },
      { name: "type", cell: ({ job_type }) => job_type },
      { name: "status", cell: ({ status }) => status },
      { name: "stage", cell: ({ stage, total_stages }) => `${stage} of ${total_stages}` },
      { name: "failed tasks", class: "count", cell: ({ failed_tasks }) => failed_tasks },
      { name: "open tasks", class: "count", cell: ({ open_tasks }) => open_tasks },
      { name: "messages", class: "count", cell: ({ messages }) => messages },
      { name: "group", cell: ({ fingerprint }) => html`<code>${fingerprint}</code>` },
    ])}
    <h2>Findings: ${found}${previous_run === null ? "" : html`, and ${report.gone.length} that are gone`}</h2>
    ${table(findings.slice(0, maxFindings), [
      { name: "severity", cell: ({ severity }) => html`<span class="${severity}">${severity}</span>` },
      ...compared<Report["findings"][number]>({
        name: "against before",
        cell: ({ difference }) => html`<span class="${difference ?? ""}">${difference ?? ""}</span>`,
      }),
      { name: "kind", cell: ({ kind }) => kind },
      { name: "what", class: "wide", cell: ({ message }) => message },
      { name: "what to do", class: "wide", cell: ({ suggested_action }) => suggested_action },
      { name: "repaired", cell: ({ repaired_at }) => repaired_at === null ? "" : time(formatTime(repaired_at)) },
    ])}
    ${findings.length > maxFindings
      ? html`<p>${findings.length - maxFindings} more: see ${link(`${report.run_id}?format=csv&${query}`, "the CSV")}.</p>`
      : ""}
      </body>
    </html>
  `;
}

/** In a box of its own that scrolls; on a phone, a block of lines for each row. */
function table<Row>(rows: readonly Row[], columns: readonly Column<Row>[]) {
  if (rows.length === 0) return html`<p>None.</p>`;
  return html`
    <div class="scroll">
      <table>
        <thead>
          <tr>${columns.map(({ name, class: kind }) => html`<th scope="col" class="${kind ?? ""}">${name}</th>`)}</tr>
        </thead>
        <tbody>
    ${rows.map((row) =>
      html`
        <tr>${columns.map((column) => {
          const content = column.cell(row);
          const filled = content === "" ? "" : html`<span>${content}</span>`;
          return html`<td data-name="${column.name}" class="${column.class ?? ""}">${filled}</td>`;
        })}</tr>
      `
    )}</tbody>
      </table>
    </div>
  `;
}

/** In two words, so that it can break. */
function time(iso: string): string {
  return iso.replace("T", " ");
}

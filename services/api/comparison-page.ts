import { html } from "hono/html";
import type { ComparisonRow, Ratio } from "./routes/comparison.ts";

export interface Comparison {
  readonly hours: number;
  readonly job_type: string | null;
  readonly rows: readonly ComparisonRow[];
  readonly ratios: readonly Ratio[];
  readonly generated_at: string;
}

const waits = [
  ["submit_to_first_task", "submit to first task"],
  ["fan_out", "fan-out of a stage"],
  ["queue_wait", "queue wait"],
  ["barrier_to_next_stage", "barrier to next stage"],
  ["job", "whole job"],
] as const;

/** One page without anything from elsewhere: a chart of the rates, and every figure below. */
export function renderComparison({ hours, job_type, rows, ratios, generated_at }: Comparison) {
  const fastest = Math.max(...rows.map(({ tasks_per_second }) => tasks_per_second ?? 0), 1e-9);
  return html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>Sluice: transports compared</title>
        <style>
      body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1c2733; }
      h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
      .scroll { overflow-x: auto }
      table { border-collapse: collapse; width: 100% }
      th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid #dbe2ea; white-space: nowrap }
      th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left }
      .bar { display: grid; grid-template-columns: minmax(9rem, 18rem) 1fr 6rem; gap: .6rem; align-items: center; margin: .25rem 0 }
      .bar div { background: #2f6db3; height: 1.1rem; border-radius: 3px; min-width: 2px } .bar span:last-child { text-align: right }
      .service_bus div { background: #7a3fb0 } .bullmq div { background: #c4572b }
      small { color: #5a6b7d }
    </style>
      </head>
      <body>
    <h1>Transports compared</h1>
    <p>Jobs that ended in the last ${hours} hours${job_type
      ? html`, of type <b>${job_type}</b>`
      : ""}. <small>${generated_at}</small></p>
    ${rows.length === 0 ? html`<p>None did.</p>` : ""}
    <h2>Tasks per second of a job</h2>
    ${rows.map((row) =>
      html`<div class="bar ${row.processing_path}"><span>${row.job_type} on ${nameOf(row)}</span>
<div style="width: ${((row.tasks_per_second ?? 0) / fastest * 100).toFixed(1)}%"></div><span>${
        round(row.tasks_per_second)
      }</span></div>`
    )}
    ${ratios.map((ratio) =>
      html`<p>${ratio.job_type}: ${ratio.processing_path} does ${round(ratio.tasks_per_second)} times the tasks per second of
${ratio.compared_with}; its median job takes 1/${round(ratio.median_job)} of the time.</p>`
    )}
    <h2>Work</h2>
    <div class="scroll"><table>
    <tr><th>job type</th><th>transport</th><th>jobs</th><th>failed</th><th>tasks</th><th>failed</th><th>retries</th><th>timed out</th>
    <th>messages</th><th>operations</th><th>US$</th></tr>
    ${rows.map((row) =>
      html`
        <tr>
          <td>${row.job_type}</td>
          <td>${nameOf(row)}</td>
          <td>${row.jobs}</td>
          <td>${row.failed_jobs}</td>
          <td>${row.tasks}</td>
          <td>${row.failed_tasks}</td>
          <td>${row.retries}</td>
          <td>${round(row.timeout_rate)} %</td>
          <td>${row.messages}</td>
          <td>${row.broker_operations}</td>
          <td>${row.cost.toFixed(4)}</td>
        </tr>
      `
    )}
    </table></div>
    <h2>Waits, in milliseconds</h2>
    <div class="scroll"><table>
    <tr><th>job type</th><th>transport</th><th>wait</th><th>mean</th><th>p50</th><th>p95</th><th>p99</th></tr>
    ${rows.flatMap((row) =>
      waits.map(([key, name]) => {
        const { mean, p50, p95, p99 } = row.latency_ms[key];
        return html`
          <tr>
            <td>${row.job_type}</td>
            <td>${nameOf(row)}</td>
            <td>${name}</td>
            <td>${round(mean)}</td>
            <td>${round(p50)}</td>
            <td>${round(p95)}</td>
            <td>${round(p99)}</td>
          </tr>
        `;
      })
    )}
    </table></div>
      </body>
    </html>
  `;
}

function nameOf({ processing_path, emulator }: ComparisonRow): string {
  return emulator ? `${processing_path} (emulator)` : processing_path;
}

function round(value: number | null): string {
  return value === null ? "–" : value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

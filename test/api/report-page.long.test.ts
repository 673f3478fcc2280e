import { mkdir, writeFile } from "node:fs/promises";
import { expect, test as base } from "vitest";
import { createApp } from "../../services/api/app.ts";
import { createJobCatalog } from "../../shared/jobs/catalog.ts";
import { listen } from "../../shared/probes.ts";
import type { Sql } from "../../shared/store/database.ts";
import { openMemoryTransport } from "../../shared/transport/memory.ts";
import { defaultQueues } from "../../shared/transport/queues.ts";
import { allJobs } from "../support/all-jobs.ts";
import { type Browser, openBrowser } from "../support/browser.ts";
import { createTestDatabase } from "../support/database.ts";
import { countsOf, finding, recordRun } from "./reconciliation-run.ts";
import { createTestLog } from "./support.ts";

interface Page {
  readonly sql: Sql;
  readonly url: string;
  readonly browser: Browser;
}

const test = base.extend<{ page: Page }>({
  // deno-lint-ignore no-empty-pattern
  page: async ({}, use) => {
    const database = await createTestDatabase();
    const transports = new Map([["bullmq", { transport: openMemoryTransport(), queues: defaultQueues.bullmq }]] as const);
    const { log } = createTestLog();
    const app = createApp({ sql: database.sql, transports, jobs: createJobCatalog(allJobs), log, sender: "tests" });
    const server = await listen(app, { host: "127.0.0.1", port: 0 });
    const browser = await openBrowser();
    await use({ sql: database.sql, url: `http://127.0.0.1:${server.port}`, browser });
    await browser.close();
    await server.close();
    await database.drop();
  },
});

const images = new URL("../../docs/images/", import.meta.url);
const kinds = ["index-gap", "stuck-stage", "lost-hint"] as const;

/** What an installation that has trouble looks like: ids of 64 digits, messages without a place to break. */
async function seedTrouble(sql: Sql): Promise<void> {
  for (let digit = 1; digit <= 6; digit++) {
    const jobId = String(digit).repeat(64);
    const fingerprint = String(digit % 3).repeat(16);
    await sql`
      insert into jobs (id, job_type, parameters, processing_path, status, total_stages, correlation_id, ended_at)
      values (${jobId}, 'summarize_container', '{}', 'service_bus', 'failed', 2, 'c', now())`;
    await sql`
      insert into stages (job_id, number, name, task_type, queue, timeout_ms, status, run, planned, sealed, completed, failed, ended_at)
      values (${jobId}, 1, 'extract', 'extract_metadata', 'tasks', 1, 'failed', 1, 10, true, 7, 3, now())`;
    await sql`
      insert into poison_groups (fingerprint, code, message, at, task_type, stage_name)
      values (${fingerprint}, ${digit % 3 ? "task-failed" : "error"}, ${`no blob at https://account/${"x".repeat(200)}`},
        ${digit % 3 === 1 ? "services/task-runner/tasks/extract-metadata.ts readBlobWithAVeryLongNameIndeed" : null},
        'extract_metadata', 'extract')
      on conflict do nothing`;
    await sql`
      insert into poison_messages (origin, transport, queue, identity, reason, verdict, judged_at, fingerprint, job_id)
      select 'message', 'service_bus', 'sb-tasks', ${`${digit}-`} || n, 'task-failed', 'expected', now(), ${fingerprint}, ${jobId}
      from generate_series(1, ${digit * 3}) as n`;
  }
}

for (const findings of [0, 3, 3_000]) {
  test(`the report of ${findings} findings fits a phone and a desk, and its first screen has the answers`, async ({ page }) => {
    const { sql, url, browser } = page;
    if (findings > 0) {
      await seedTrouble(sql);
      await recordRun(sql, [finding(2), finding(100_000)], {}, {});
    }
    const found = Array.from({ length: findings }, (_, number) =>
      finding(number + 1, {
        kind: kinds[number % 3] ?? "lost-hint",
        severity: number % 3 === 2 ? "warning" : "error",
        repairable: number % 3 !== 0,
        suggested_action:
          ["plan the stage again: retry the job", "run with apply", "none: the sweep sends it again"][number % 3] ?? "",
        ...(number % 10 === 9 && { message: `queue ${"tasks-of-a-name-without-end-".repeat(8)}`.replaceAll("-", "_") }),
      }));
    const counts = Object.fromEntries(kinds.map((kind) => {
      const number = found.filter((one) => one.kind === kind).length;
      return [kind, countsOf(number, number, kind === "stuck-stage" ? 1 : 0)];
    }));
    const runId = await recordRun(sql, found, {}, findings > 0 ? counts : {});
    await mkdir(images, { recursive: true });
    for (const [width, height] of [[390, 844], [1280, 900]] as const) {
      for (const dark of [true, false]) {
        await browser.show(`${url}/api/reconciliation/runs/${runId}?format=html&tz=Europe/Berlin`, { width, height, dark });
        const [wide, overflowing, answersEnd, rows] = await browser.evaluate(`(() => {
          const boxes = [...document.querySelectorAll("body *")].filter((element) => !element.closest(".scroll"));
          return [
            document.documentElement.scrollWidth - innerWidth,
            boxes.filter((element) => element.getBoundingClientRect().right > innerWidth + 1 || element.scrollWidth > element.clientWidth + 1
              && getComputedStyle(element).display !== "inline").length,
            document.querySelector(".answers").getBoundingClientRect().bottom,
            document.querySelectorAll('td[data-name="severity"]').length,
          ];
        })()`) as [number, number, number, number];
        expect(wide).toBeLessThanOrEqual(0);
        expect(overflowing).toBe(0);
        expect(rows).toBe({ 0: 0, 3: 4, 3_000: 3_000 }[findings]); // one of the run before is gone
        expect(answersEnd).toBeLessThanOrEqual(height);
        // On a phone nothing is wider than the screen, not even in its own box.
        if (width === 390) {
          expect(
            await browser.evaluate(
              `[...document.querySelectorAll(".scroll")].filter((box) => box.scrollWidth > box.clientWidth + 1).length`,
            ),
          ).toBe(0);
        }
      }
      await writeFile(new URL(`report-${width}-${findings}.png`, images), await browser.screenshot());
    }
    const pages = (await browser.print()).toString("latin1").match(/\/Type \/Page\b/g)?.length ?? 0;
    console.log(`${findings} findings: ${pages} printed pages`);
  });
}

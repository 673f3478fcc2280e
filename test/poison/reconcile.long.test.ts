import { fork } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { once } from "node:events";
import { beforeAll, describe, expect, onTestFinished } from "vitest";
import { brokers } from "../support/brokers.ts";
import { test, whenLeasesMeanSomething } from "../support/database.ts";
import { damages } from "./damages.ts";
import { inflictAndRepair, inflictAny } from "./inflict-and-repair.ts";
import { reconcileUnderLoad } from "./reconcile-under-load.ts";

beforeAll(whenLeasesMeanSomething);

describe("a damage is found and named, then mended where it can be", () => {
  test.each(damages.map((damage) => [damage.name, damage] as const))("%s", async (_, damage) => {
    await inflictAndRepair([{ damage, size: 3 }]);
  });

  test("any of them, together, 200 times", () => inflictAny(200));
});

describe.each(brokers)("over $name", ({ missing, start }) => {
  test.skipIf(missing)("five minutes of reconciliation on a healthy system under load find nothing", async ({ sql }) => {
    const broker = await start();
    onTestFinished(() => broker.stop());
    const transport = broker.open();
    onTestFinished(() => transport.close());
    const report = await reconcileUnderLoad(sql, transport, { seconds: 300, pauseMs: 5_000 });
    console.log(`${report.runs} runs beside ${report.jobs} jobs`);
    expect(report).toMatchObject({ findings: [], failedRuns: [] });
  });
});

test("a million tasks are reconciled within a minute, in bounded memory", async ({ sql, database }) => {
  const [jobId, tasks] = ["e".repeat(64), 1_000_000];
  await sql`set statement_timeout = 0`;
  await sql`
    insert into jobs (id, job_type, parameters, processing_path, total_stages, correlation_id, status)
    values (${jobId}, 'j', '{}', 'bullmq', 2, 'c', 'processing')`;
  const [stage] = await sql<{ id: number }[]>`
    insert into stages (job_id, number, name, task_type, queue, timeout_ms, run, status, sealed, planned, next_index, completed)
    values (${jobId}, 1, 'one', 't', 'tasks', 1000, 1, 'open', true, ${tasks}, ${tasks}, ${tasks / 2}) returning id`;
  for (let start = 0; start < tasks; start += 100_000) {
    await sql`
      with task as (
        insert into tasks (stage_id, index, parameters, outbox_id, status, attempt, result, result_attempt)
        select ${stage?.id ?? 0}::bigint, serial, '{}', serial / 100 + 1, case when serial < ${
      tasks / 2
    }::int then 'completed' else 'pending' end,
          1, case when serial < ${tasks / 2}::int then '{}'::jsonb end, case when serial < ${tasks / 2}::int then 1 end
        from generate_series(${start}::int, ${start + 99_999}::int) as serial returning id, outbox_id
      )
      insert into outbox (id, batch_id, job_id, stage_id, transport, queue, kind, run, task_ids, status, sent_at)
      select outbox_id, 'b' || outbox_id, ${jobId}, ${
      stage?.id ?? 0
    }::bigint, 'bullmq', 'tasks', 'tasks', 1, array_agg(id order by id), 'queued', now()
      from task group by outbox_id`;
  }
  await sql`vacuum analyze`;
  const child = fork("test/poison/reconcile-million.ts", [database.url], { execArgv: ["--max-old-space-size=192"] });
  const [report] = await once(child, "message");
  console.log(report);
  expect(report).toMatchObject({ findings: [], tasks });
  expect(report.seconds).toBeLessThan(60);
  expect(report.maxRssMb).toBeLessThan(300);
  const { seconds, maxRssMb, checks } = report;
  const figures = {
    command: "SLUICE_LONG_TESTS=true npx vitest run test/poison/reconcile.long.test.ts",
    date: new Date().toISOString().slice(0, 10),
    ...{ tasks, seconds, maxRssMb, checks },
    machine: "2 shared cores, at the lowest priority beside other tests",
  };
  await writeFile("docs/figures/reconciliation.json", JSON.stringify(figures, null, 2) + "\n");
});

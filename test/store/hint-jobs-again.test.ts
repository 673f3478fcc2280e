import { expect } from "vitest";
import { hintJobsAgain } from "../../shared/store/sweep.ts";
import { test } from "../support/database.ts";

test("jobs whose hints wait in the outbox don't keep one whose hint was lost from being hinted again", async ({ sql }) => {
  await sql`
    insert into jobs (id, job_type, parameters, processing_path, total_stages, correlation_id, updated_at)
    select lpad(to_hex(serial), 64, '0'), 'any', '{}', case serial when 1001 then 'bullmq' else 'service_bus' end, 1, 'tests',
      now() - interval '1 hour' + serial * interval '1 ms'
    from generate_series(1, 1001) as serial`;
  await sql`
    insert into outbox (batch_id, job_id, transport, queue, kind, run)
    select id || '-r1-start', id, processing_path, 'jobs', 'start-job', 1 from jobs where processing_path = 'service_bus'`;
  expect(await hintJobsAgain(sql)).toBe(1);
  expect(await sql`select transport from outbox where batch_id like '%-h2'`).toEqual([{ transport: "bullmq" }]);
  expect(await hintJobsAgain(sql)).toBe(0);
});

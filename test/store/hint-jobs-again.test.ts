import { expect } from "vitest";
import { hintJobsAgain } from "../../shared/store/sweep.ts";
import { test } from "../support/database.ts";

test("jobs whose hints wait in the outbox don't keep one whose hint was lost from being hinted again", async ({ sql }) => {
  await sql`
    insert into jobs (id, job_type, parameters, processing_path, total_stages, correlation_id, updated_at)
    select lpad(to_hex(serial), 64, '0'), 'any', '{}', 'bullmq', 1, 'tests',
      now() - interval '1 hour' + serial * interval '1 ms'
    from generate_series(1, 1001) as serial`;
  await sql`
    insert into outbox (batch_id, job_id, transport, queue, kind, run)
    select id || '-r1-start', id, processing_path, 'jobs', 'start-job', 1 from jobs order by id limit 1000`;
  expect(await hintJobsAgain(sql, "bullmq", 1_000)).toBe(1);
  const last = (1001).toString(16).padStart(64, "0");
  expect(await sql`select job_id from outbox where batch_id like '%-h2'`).toEqual([{ job_id: last }]);
  expect(await hintJobsAgain(sql, "bullmq", 1_000)).toBe(0);
});

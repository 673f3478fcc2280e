import { expect } from "vitest";
import type { Db } from "../../shared/store/database.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { endStoppedJobs, stopJob } from "../../shared/store/jobs.ts";
import { cancelTasks, expireTasks, findStagesWithOpenTasks, sliceStage, type TaskSlice } from "../../shared/store/tasks.ts";
import { test } from "../support/database.ts";
import { jobId, openStage } from "../support/open-stage.ts";

const tasks = 10_000;
const perSlice = 500;

/** Rows of `tasks` that statements of this session have read, by an index or from the table. */
async function countReads(tx: Db): Promise<number> {
  const [row] = await tx<{ reads: number }[]>`
    select (seq_tup_read + idx_tup_fetch)::int as reads from pg_stat_xact_user_tables where relname = 'tasks'`;
  return row?.reads ?? 0;
}

interface Closing {
  readonly what: "a job that is stopping" | "a stage past its deadline";
  /** What the planner knows: how it is, or how it was when all that there was had ended, and open tasks were few. */
  readonly statistics: "fresh" | "stale";
  readonly close: (tx: Db, slice: TaskSlice) => Promise<number>;
}
const cancel: Closing["close"] = (tx, slice) => cancelTasks(tx, "sweep", slice);
const expire: Closing["close"] = async (tx, slice) => (await expireTasks(tx, "sweep", slice)).recorded.size;
const closing: readonly Closing[] = [
  { what: "a job that is stopping", statistics: "fresh", close: cancel },
  { what: "a job that is stopping", statistics: "stale", close: cancel },
  { what: "a stage past its deadline", statistics: "stale", close: expire },
];

test.for(closing)(
  "closing $what reads each task as it is found and as it is changed, in the last slice as in the first ($statistics statistics)",
  async ({ what, statistics, close }, { sql }) => {
    if (statistics === "stale") {
      await openStage(sql, tasks, { jobId: "b".repeat(64) });
      await sql`update tasks set status = 'cancelled', ended_at = now()`;
      await sql`update stages set cancelled = planned, status = 'cancelled'`;
      await sql`update jobs set status = 'stopping', stop_as = 'cancelled'`;
      await endStoppedJobs(sql);
      await sql`vacuum analyze`;
    }
    const { stage } = await openStage(sql, tasks, { deadlineMs: what === "a stage past its deadline" ? 1 : null });
    if (statistics === "fresh") await sql`vacuum analyze`;
    if (what === "a job that is stopping") await stopJob(sql, { jobId, as: "cancelled", error: null });
    const [open] = await findStagesWithOpenTasks(sql, jobId);
    expect(open).toEqual({ stageId: stage.stageId, nextIndex: tasks });
    const reads: number[] = [];
    let closed = 0;
    for (const slice of sliceStage({ stageId: stage.stageId, nextIndex: tasks }, perSlice)) {
      await sql.begin(async (tx) => {
        const readBefore = await countReads(tx);
        closed += await close(tx, slice);
        reads.push(await countReads(tx) - readBefore);
      });
    }
    expect(closed).toBe(tasks);
    expect(reads).toHaveLength(tasks / perSlice);
    expect(Math.max(...reads)).toBeLessThanOrEqual(perSlice * 3);
    expect(await findStagesWithOpenTasks(sql, jobId)).toEqual([]);
    expect(await findViolations(sql)).toEqual([]);
  },
);

test("a stopping job ends with its last slice, and keeps what had ended before", async ({ sql }) => {
  const { stage, taskIds } = await openStage(sql, 25);
  await sql`update tasks set status = 'failed', ended_at = now() where id = ${taskIds[0] ?? 0}`;
  await sql`update stages set failed = 1`;
  await stopJob(sql, { jobId, as: "failed", error: { code: "any", message: "any" } });
  for (const slice of sliceStage({ stageId: stage.stageId, nextIndex: 25 }, 10)) {
    expect(await endStoppedJobs(sql, jobId)).toEqual([]);
    await cancelTasks(sql, "sweep", slice);
  }
  expect(await endStoppedJobs(sql, jobId)).toEqual([jobId]);
  expect(await sql`select status, count(*)::int from tasks group by status order by status`).toEqual([
    { status: "cancelled", count: 24 },
    { status: "failed", count: 1 },
  ]);
  expect(await findViolations(sql)).toEqual([]);
});

import { Hono } from "hono";
import * as v from "valibot";
import { JobId, RowId } from "../../../shared/contracts/ids.ts";
import { jobStatuses, taskStatuses } from "../../../shared/status.ts";
import type { Sql } from "../../../shared/store/database.ts";
import {
  countBatches,
  countByStatus,
  isKnownJob,
  listBatches,
  listJobs,
  listTasks,
  listTasksOfJob,
  readActivity,
  readTableStatistics,
} from "../../../shared/store/listings.ts";
import { jobLinks } from "../links.ts";
import { cursor, encodeCursor, hours, jobType, limit, readQuery, stage } from "../read-query.ts";
import { getJob, readJobId, stageResults, unknownJob } from "./jobs.ts";

const Index = v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(2 ** 31 - 1));
const JobCursor = v.object({ createdAtUs: v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(4e15)), jobId: JobId });
const TaskCursor = v.object({ stage: Index, index: Index });

/** The rows, to be looked at: `/api/db`. */
export function createRecordRoutes({ sql }: { readonly sql: Sql }): Hono {
  return new Hono()
    .get("/jobs", async (context) => {
      const query = readQuery(context, {
        status: v.optional(v.picklist(jobStatuses)),
        job_type: jobType,
        hours,
        limit: limit(100, 10),
        cursor: cursor(JobCursor),
      });
      const started = performance.now();
      const { rows, next } = await listJobs(sql, { ...query, jobType: query.job_type, after: query.cursor });
      return context.json({
        jobs: rows,
        next_cursor: encodeCursor(next),
        query_info: {
          limit: query.limit,
          hours_back: query.hours ?? null,
          status_filter: query.status ?? null,
          job_type_filter: query.job_type ?? null,
          total_found: rows.length,
          execution_time_ms: millisecondsSince(started),
        },
      });
    })
    .get("/jobs/:job_id", async (context) => {
      const { job, stages } = await getJob(sql, readJobId(context));
      return context.json({
        ...job,
        stage_results: stageResults(stages),
        stages: stages.map(({ result: _, ...row }) => row),
        links: jobLinks(job.job_id),
      });
    })
    .get("/tasks", async (context) => {
      const query = readQuery(context, {
        status: v.optional(v.picklist(taskStatuses)),
        job_type: jobType,
        stage,
        hours,
        limit: limit(1000, 50),
        cursor: cursor(RowId),
      });
      const started = performance.now();
      const { rows, next } = await listTasks(sql, { ...query, jobType: query.job_type, after: query.cursor });
      return context.json({
        tasks: rows,
        next_cursor: encodeCursor(next),
        query_info: {
          limit: query.limit,
          hours_back: query.hours ?? null,
          status_filter: query.status ?? null,
          job_type_filter: query.job_type ?? null,
          stage_filter: query.stage ?? null,
          total_found: rows.length,
          execution_time_ms: millisecondsSince(started),
        },
      });
    })
    .get("/tasks/:job_id", async (context) => {
      const jobId = readJobId(context);
      const query = readQuery(context, {
        status: v.optional(v.picklist(taskStatuses)),
        stage,
        limit: limit(1000, 100),
        cursor: cursor(TaskCursor),
      });
      const started = performance.now();
      const { rows, next } = await listTasksOfJob(sql, jobId, { ...query, after: query.cursor });
      if (rows.length === 0 && !await isKnownJob(sql, jobId)) throw unknownJob(jobId);
      return context.json({
        job_id: jobId,
        tasks: rows,
        next_cursor: encodeCursor(next),
        query_info: {
          limit: query.limit,
          status_filter: query.status ?? null,
          stage_filter: query.stage ?? null,
          total_found: rows.length,
          execution_time_ms: millisecondsSince(started),
        },
      });
    })
    .get("/batches/:job_id", async (context) => {
      const jobId = readJobId(context);
      const query = readQuery(context, {
        status: v.optional(v.picklist(["pending_queue", "queued"])),
        limit: limit(1000, 100),
        cursor: cursor(RowId),
      });
      const started = performance.now();
      const [{ rows, next }, totals] = await Promise.all([
        listBatches(sql, jobId, { ...query, after: query.cursor }),
        countBatches(sql, jobId),
      ]);
      if (totals.batches === 0 && !await isKnownJob(sql, jobId)) throw unknownJob(jobId);
      return context.json({
        job_id: jobId,
        batches: rows,
        totals,
        next_cursor: encodeCursor(next),
        query_info: {
          limit: query.limit,
          status_filter: query.status ?? null,
          total_found: rows.length,
          execution_time_ms: millisecondsSince(started),
        },
      });
    })
    .get("/stats", async (context) => {
      readQuery(context, {});
      const started = performance.now();
      const [{ tables, indexes }, rows, activity] = await Promise.all([
        readTableStatistics(sql),
        countByStatus(sql),
        readActivity(sql),
      ]);
      return context.json({
        database_statistics: { table_statistics: tables, index_usage: indexes, rows_by_status: rows, activity_summary: activity },
        query_info: { execution_time_ms: millisecondsSince(started) },
        generated_at: new Date().toISOString(),
      });
    });
}

function millisecondsSince(started: number): number {
  return Math.round((performance.now() - started) * 10) / 10;
}

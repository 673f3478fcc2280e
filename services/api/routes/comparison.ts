import { Hono } from "hono";
import * as v from "valibot";
import { JobId } from "../../../shared/contracts/ids.ts";
import { readTransportFacts, type TransportFacts } from "../../../shared/store/comparison.ts";
import type { Sql } from "../../../shared/store/database.ts";
import type { TransportName } from "../../../shared/transports.ts";
import { renderComparison } from "../comparison-page.ts";
import type { PriceTable } from "../prices.ts";
import { jobType, readQuery, wholeNumber } from "../read-query.ts";

export interface ComparisonDependencies {
  readonly sql: Sql;
  readonly prices: PriceTable;
  readonly isEmulator: (transport: TransportName) => boolean;
}

/** The transports on the same work, from recorded facts: `/api/metrics/comparison`. */
export function createComparisonRoutes({ sql, prices, isEmulator }: ComparisonDependencies): Hono {
  return new Hono().get("/comparison", async (context) => {
    const query = readQuery(context, {
      hours: v.optional(wholeNumber(1, 8760), "24"),
      job_type: jobType,
      job_id: v.optional(JobId),
      format: v.optional(v.picklist(["json", "html"]), "json"),
    });
    const facts = await readTransportFacts(sql, { hours: query.hours, jobType: query.job_type, jobId: query.job_id });
    const comparison = {
      hours: query.hours,
      job_type: query.job_type ?? null,
      rows: facts.map((row) => describe(row, prices, isEmulator(row.processingPath))),
      ratios: compare(facts),
      prices,
      generated_at: new Date().toISOString(),
    };
    if (query.format === "json") return context.json(comparison);
    return context.html(renderComparison(comparison));
  });
}

export type ComparisonRow = ReturnType<typeof describe>;

function describe(facts: TransportFacts, prices: PriceTable, emulator: boolean) {
  const { attempts, timedOutAttempts, messages } = facts;
  const price = prices[facts.processingPath];
  const operations = messages * price.operations_per_message;
  return {
    processing_path: facts.processingPath,
    emulator,
    job_type: facts.jobType,
    jobs: facts.jobs,
    failed_jobs: facts.failedJobs,
    tasks: facts.tasks,
    failed_tasks: facts.failedTasks,
    attempts,
    timed_out_attempts: timedOutAttempts,
    /** Percent of all attempts. */
    timeout_rate: attempts === 0 ? 0 : timedOutAttempts / attempts * 100,
    retries: facts.retries,
    tasks_per_second: facts.tasksPerSecond,
    latency_ms: {
      submit_to_first_task: facts.submitToFirstTask,
      fan_out: facts.fanOut,
      queue_wait: facts.queueWait,
      barrier_to_next_stage: facts.barrierToNextStage,
      job: facts.job,
    },
    messages,
    broker_operations: operations,
    /** US dollars, by the price table. */
    cost: operations * price.per_million_operations / 1_000_000,
  };
}

export interface Ratio {
  readonly job_type: string;
  readonly processing_path: TransportName;
  /** What it is compared with: Queue Storage, or where that ran nothing of the type, the first one. */
  readonly compared_with: TransportName;
  /** Above 1: faster. */
  readonly tasks_per_second: number | null;
  readonly median_job: number | null;
}

function compare(facts: readonly TransportFacts[]): readonly Ratio[] {
  return facts.flatMap((row): readonly Ratio[] => {
    const sameType = facts.filter(({ jobType }) => jobType === row.jobType);
    const base = sameType.find(({ processingPath }) => processingPath === "storage_queue") ?? sameType[0];
    if (!base || base === row) return [];
    return [{
      job_type: row.jobType,
      processing_path: row.processingPath,
      compared_with: base.processingPath,
      tasks_per_second: divide(row.tasksPerSecond, base.tasksPerSecond),
      median_job: divide(base.job.p50, row.job.p50),
    }];
  });
}

function divide(value: number | null, by: number | null): number | null {
  return value === null || !by ? null : value / by;
}

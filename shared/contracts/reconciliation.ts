import * as v from "valibot";
import { transportNames } from "../transports.ts";
import { JobId, RowId } from "./ids.ts";

/** What a reconciliation run may find, by names that stay (docs/reconciliation.md). */
export const findingKinds = [
  "schema-mismatch",
  "counter-mismatch",
  "index-gap",
  "contradiction",
  "result-missing",
  "open-task-in-ended-job",
  "open-stage-in-ended-job",
  "orphan-task",
  "missing-outbox-row",
  "orphan-outbox",
  "unsent-batch",
  "lost-hint",
  "zombie-attempt",
  "dead-runner",
  "no-live-runner",
  "stuck-stage",
  "stalled-stage",
  "overdue-stage",
  "stalled-job",
  "poison-unjudged",
  "poison-backlog",
  "failed-without-poison-record",
  "queue-deeper-than-rows",
  "broker-away",
] as const;
export type FindingKind = typeof findingKinds[number];

export const severities = ["info", "warning", "error"] as const;
export type Severity = typeof severities[number];

export const runModes = ["dry-run", "apply"] as const;
export type RunMode = typeof runModes[number];

export const runStatuses = ["requested", "running", "completed", "failed"] as const;
export type RunStatus = typeof runStatuses[number];

export const subjectTypes = ["job", "stage", "task", "batch", "runner", "queue", "poison-message", "schema"] as const;

const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const Time = v.pipe(v.string(), v.isoTimestamp());
const Transport = v.picklist(transportNames);

/** One thing that is not as it should be. */
export const ReconciliationFinding = v.object({
  finding_id: RowId,
  kind: v.picklist(findingKinds),
  severity: v.picklist(severities),
  /** What it is about: an id of ours, or the name of a queue as its broker has it. */
  subject_type: v.picklist(subjectTypes),
  subject_id: v.string(),
  job_id: v.nullable(JobId),
  stage_id: v.nullable(RowId),
  task_id: v.nullable(RowId),
  transport: v.nullable(Transport),
  queue: v.nullable(v.string()),
  message: v.string(),
  suggested_action: v.string(),
  /** Whether a run with `apply` mends it. */
  repairable: v.boolean(),
  repaired_at: v.nullable(Time),
});
export type ReconciliationFinding = v.InferOutput<typeof ReconciliationFinding>;

/** Every finding of a kind is counted here, however many of them are listed. */
export const KindCounts = v.object({
  found: Count,
  listed: Count,
  repaired: Count,
  /** Of those listed: not found by the run before; and found by that, but not by this one. */
  appeared: Count,
  gone: Count,
});
export type KindCounts = v.InferOutput<typeof KindCounts>;

/** A queue as rows and broker have it; the second of two readings. */
export const QueueBalance = v.object({
  transport: Transport,
  /** As its broker calls it. */
  queue: v.string(),
  /** The fewest messages that the rows say are in the broker. Null where they don't say: where dead letters are forwarded to. */
  expected: v.nullable(Count),
  /** Null: the broker didn't answer. */
  active: v.nullable(Count),
  dead_lettered: v.nullable(Count),
  /** By so many messages the two may differ. */
  tolerance: v.nullable(Count),
});
export type QueueBalance = v.InferOutput<typeof QueueBalance>;

export const ReconciliationSummary = v.object({
  version: v.literal(1),
  findings: Count,
  repaired: Count,
  /** By severity, of all that was found. */
  severities: v.record(v.picklist(severities), Count),
  /** Kinds of which this run or the one before found any. */
  kinds: v.record(v.string(), KindCounts),
  /** Rows that were read. */
  rows: v.object({ jobs: Count, stages: Count, tasks: Count, batches: Count }),
  checks: v.array(v.object({ name: v.string(), duration_ms: Count, skipped: v.nullable(v.string()) })),
  queues: v.array(QueueBalance),
  runners: v.array(v.object({ transport: Transport, queue: v.string(), live: Count, dead: Count })),
  sweep: v.object({
    /** Repairs by kind of event since the run before; null where there was none. */
    repaired_since_previous: v.nullable(v.record(v.string(), Count)),
    /** What the next round of the sweep has to do, late or not. */
    due: v.record(v.string(), Count),
  }),
});
export type ReconciliationSummary = v.InferOutput<typeof ReconciliationSummary>;

export const ReconciliationRun = v.object({
  run_id: RowId,
  mode: v.picklist(runModes),
  status: v.picklist(runStatuses),
  requested_by: v.picklist(["api", "command", "schedule"]),
  requested_at: Time,
  started_at: v.nullable(Time),
  finished_at: v.nullable(Time),
  schema_version: v.nullable(v.string()),
  previous_run: v.nullable(RowId),
  summary: v.nullable(ReconciliationSummary),
  error: v.nullable(v.object({ code: v.string(), message: v.string() })),
});
export type ReconciliationRun = v.InferOutput<typeof ReconciliationRun>;

/** `GET /api/reconciliation/runs/{run_id}`: the run, and a page of its findings. */
export const ReconciliationReport = v.object({
  ...ReconciliationRun.entries,
  findings: v.array(ReconciliationFinding),
  next_cursor: v.nullable(v.string()),
});
export type ReconciliationReport = v.InferOutput<typeof ReconciliationReport>;

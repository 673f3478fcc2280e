import * as v from "valibot";
import { jobStatuses } from "../status.ts";
import { transportNames } from "../transports.ts";
import { JobId } from "./ids.ts";
import { ReconciliationFinding, ReconciliationReport } from "./reconciliation.ts";

export const differences = ["new", "still", "gone"] as const;
export type Difference = typeof differences[number];

const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const Fingerprint = v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/));

/** A finding against the run before. `null`: there is no run before. */
const ComparedFinding = v.object({ ...ReconciliationFinding.entries, difference: v.nullable(v.picklist(differences)) });

const Group = v.object({
  fingerprint: Fingerprint,
  code: v.string(),
  message: v.string(),
  at: v.nullable(v.string()),
  task_type: v.nullable(v.string()),
  stage_name: v.nullable(v.string()),
  /** In the day before the run ended. */
  messages: Count,
  state: v.picklist(["new", "regressed", "ongoing", "resolved"]),
  nature: v.picklist(["transient", "permanent", "unknown"]),
  action: v.string(),
});

const BlockedJob = v.object({
  job_id: JobId,
  job_type: v.string(),
  status: v.picklist(jobStatuses),
  transport: v.picklist(transportNames),
  stage: Count,
  total_stages: Count,
  failed_tasks: Count,
  /** Of the stage it is at. */
  open_tasks: Count,
  /** That died in the day before the run ended, and were not dealt with. */
  messages: Count,
  /** The group that most of them are in. */
  fingerprint: Fingerprint,
});

/** `GET /api/reconciliation/runs/{run_id}`: what a run found, and what it means. */
export const Report = v.object({
  ...ReconciliationReport.entries,
  findings: v.array(ComparedFinding),
  /** Of the run before; none on a page other than the first. */
  gone: v.array(ComparedFinding),
  answers: v.object({
    lost: v.object({
      /** `stuck`: nothing is missing, but something doesn't go on by itself. `unknown`: the run can't tell. */
      status: v.picklist(["no", "stuck", "yes", "unknown"]),
      text: v.string(),
    }),
    failing: v.string(),
    blocked: v.string(),
    /** What to do, the most urgent first. */
    actions: v.array(v.string()),
  }),
  groups: v.array(Group),
  blocked_jobs: v.object({ total: Count, jobs: v.array(BlockedJob) }),
});
export type Report = v.InferOutput<typeof Report>;

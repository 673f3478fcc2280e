import type { Logger } from "pino";
import type { FindingKind } from "../../../shared/contracts/reconciliation.ts";
import type { Sql } from "../../../shared/store/database.ts";
import type { FoundRows } from "../../../shared/store/damage/found.ts";
import type { NewFinding } from "../../../shared/store/reconciliation.ts";
import type { Verdict } from "../../../shared/store/poison.ts";
import type { Transports } from "../../../shared/transport/send-batches.ts";
import type { TransportName } from "../../../shared/transports.ts";

/** What the checks of a run work with. */
export interface Reconciliation {
  readonly sql: Sql;
  /** New at each start of the process. */
  readonly id: string;
  readonly transports: Transports;
  readonly queueNames: ReadonlyMap<TransportName, readonly string[]>;
  /** Where a Service Bus namespace forwards its dead letters to, if it does. */
  readonly poisonQueue: string | undefined;
  /** An attempt may outlive its time-out by so much: as the sweep has it. */
  readonly graceMs: number;
  readonly judge: (poisonId: number) => Promise<Verdict | "gone">;
  readonly log: Logger;
  /** Between two readings of what may be in flux. */
  readonly pauseMs: number;
}

/** Beyond the moment at which the sweep mends something, before it counts as found: the sweep may be busy, or at its first round. */
export const lateMs = 30_000;
/** Findings of a kind that are listed; all are counted. */
export const maxListed = 1_000;
/** Rows that one statement of a repair touches. */
export const sliceSize = 1_000;

/** A finding and what it was seen by: seen again, it must be by the same evidence. */
export interface Finding extends NewFinding {
  readonly evidence: string;
}

export interface Found {
  readonly findings: readonly Finding[];
  /** Per kind; more than are listed, if there are many. */
  readonly totals: ReadonlyMap<FindingKind, number>;
  /** Rows of tasks that were read, if it counts them. */
  readonly tasks?: number;
}

/** Why a check was not made. */
export interface Skipped {
  readonly skipped: string;
}

export interface Check {
  readonly name: string;
  /** It reads twice, and the pause is in between. */
  readonly isPatient: boolean;
  /** Begins to look; what it returns is called once, some seconds later, and says what was found. */
  begin(reconciliation: Reconciliation): Promise<() => Promise<Found | Skipped>>;
  /** Mends what it found, by the normal paths, each of which repeats its guard. Returns the findings that are mended. */
  mend?(reconciliation: Reconciliation, findings: readonly Finding[]): Promise<ReadonlySet<Finding>>;
}

/** For what one snapshot of the rows shows: nothing that is in flux looks like it. */
export function once(find: (reconciliation: Reconciliation) => Promise<Found | Skipped>): Pick<Check, "isPatient" | "begin"> {
  return { isPatient: false, begin: (reconciliation) => Promise.resolve(() => find(reconciliation)) };
}

/** For what may look like it for a moment: only what both readings show, by the same evidence, is found. */
export function twice(find: (reconciliation: Reconciliation) => Promise<Found | Skipped>): Pick<Check, "isPatient" | "begin"> {
  return {
    isPatient: true,
    async begin(reconciliation) {
      const first = await find(reconciliation);
      return async () => {
        const second = await find(reconciliation);
        return "skipped" in first ? first : "skipped" in second ? second : seenInBoth(first, second);
      };
    },
  };
}

function seenInBoth(first: Found, second: Found): Found {
  const seen = new Set(first.findings.map(keyOf));
  const findings = second.findings.filter((finding) => seen.has(keyOf(finding)));
  const totals = new Map<FindingKind, number>();
  for (const kind of second.totals.keys()) {
    const listed = findings.filter((finding) => finding.kind === kind).length;
    const inBoth = Math.min(first.totals.get(kind) ?? 0, second.totals.get(kind) ?? 0);
    // Beyond what is listed, nobody compared the evidence.
    if (listed > 0) totals.set(kind, listed < maxListed ? listed : inBoth);
  }
  return { findings, totals };
}

const keyOf = ({ kind, subject_id, evidence }: Finding): string => `${kind} ${subject_id} ${evidence}`;

/** Findings of one kind. */
export function found<Row>(
  kind: FindingKind,
  { rows, total }: FoundRows<Row>,
  describe: (row: Row) => Description,
): Found {
  return {
    findings: rows.map((row) => toFinding(kind, describe(row))),
    totals: total > 0 ? new Map([[kind, total]]) : new Map(),
  };
}

/** What a check says of a row; the rest of a finding is empty. */
export type Description =
  & Pick<NewFinding, "severity" | "subject_type" | "message" | "suggested_action">
  & Partial<Pick<NewFinding, "job_id" | "stage_id" | "task_id" | "transport" | "queue" | "repairable">>
  & { readonly subject_id: string | number; readonly evidence?: unknown };

export function toFinding(kind: FindingKind, { subject_id, evidence, ...description }: Description): Finding {
  const nowhere = { job_id: null, stage_id: null, task_id: null, transport: null, queue: null };
  return {
    ...nowhere,
    repairable: false,
    ...description,
    kind,
    subject_id: String(subject_id),
    evidence: JSON.stringify(evidence ?? null),
  };
}

/** Several findings as one; of each kind, as many are listed as may be. */
export function together(parts: readonly Found[]): Found {
  const totals = new Map<FindingKind, number>();
  for (const part of parts) for (const [kind, total] of part.totals) totals.set(kind, (totals.get(kind) ?? 0) + total);
  const listed = new Map<FindingKind, number>();
  const findings = parts.flatMap((part) => part.findings).filter(({ kind }) => {
    const number = (listed.get(kind) ?? 0) + 1;
    listed.set(kind, number);
    return number <= maxListed;
  });
  return { findings, totals, tasks: parts.reduce((sum, part) => sum + (part.tasks ?? 0), 0) };
}

/** The findings among these that a repair says it has mended, by their subjects. */
export function mendedOf(findings: readonly Finding[], subjects: Iterable<string | number>): ReadonlySet<Finding> {
  const mended = new Set([...subjects].map(String));
  return new Set(findings.filter(({ subject_id }) => mended.has(subject_id)));
}

/** Numbers of the subjects. */
export function subjectIds(findings: readonly Finding[]): readonly number[] {
  return findings.map(({ subject_id }) => Number(subject_id));
}

import type { Logger } from "pino";
import { createGroup } from "../../shared/group.ts";
import { isRefusedByDatabase, type Sql, withConflictRetry } from "../../shared/store/database.ts";
import { actOnPoison, type PoisonAction } from "../../shared/store/poison-actions.ts";
import { type Judgement, type PoisonFacts, readPoisonFacts, type Verdict, writeVerdicts } from "../../shared/store/poison.ts";
import { classify, type Ruling } from "./classify.ts";
import { fingerprintOf, normalizeMessage } from "./fingerprint.ts";

export interface Judge {
  readonly sql: Sql;
  /** Who it is, to the outbox. */
  readonly id: string;
  /** An attempt may outlive its time-out by so much before it counts as hung: as the sweep has it. */
  readonly graceMs: number;
  readonly log: Logger;
}

const maxGroup = 200;
/** Times that rows may move under a verdict before it is left to the next round. */
const maxTries = 5;

/**
 * Judges recorded messages, once each; one that was judged before stays as it is. Concurrent calls are grouped: what needs no more
 * than a verdict is read and written in one statement each, what needs more is a transaction of its own.
 */
export function createJudge(judge: Judge): (poisonId: number) => Promise<Verdict | "gone"> {
  const { sql, graceMs } = judge;

  async function judgeAll(poisonIds: readonly number[], tries = 0): Promise<ReadonlyMap<number, Verdict>> {
    const verdicts = new Map<number, Verdict>();
    const facts = await readPoisonFacts(sql, poisonIds, { graceMs });
    for (const { poisonId, verdict } of facts) if (verdict) verdicts.set(poisonId, verdict);
    const cases = facts.filter(({ verdict }) => verdict === null).map((known) => {
      const ruling = classify(known);
      return { known, ruling, judgement: createJudgement(known, ruling) };
    });
    const plain = cases.filter(({ ruling }) => !ruling.action);
    const written = new Set(await withConflictRetry(() => writeVerdicts(sql, plain.map(({ judgement }) => judgement))));
    for (const { known, judgement } of plain) {
      verdicts.set(known.poisonId, judgement.verdict);
      if (written.has(known.poisonId)) logVerdict(judge.log, known, judgement);
    }
    for (const { known, ruling, judgement } of cases) {
      if (ruling.action) verdicts.set(known.poisonId, await act(known, judgement, ruling.action, tries));
    }
    return verdicts;
  }

  async function act(known: PoisonFacts, judgement: Judgement, action: PoisonAction, tries: number): Promise<Verdict> {
    const acted = await actOnPoison(sql, judge.id, judgement, action);
    if (acted === "done") logVerdict(judge.log, known, judgement);
    if (acted !== "moved") return judgement.verdict;
    if (tries >= maxTries) throw new Error(`the rows of poison message ${known.poisonId} don't stand still`);
    const again = await judgeAll([known.poisonId], tries + 1);
    return again.get(known.poisonId) ?? judgement.verdict;
  }

  return createGroup(async (poisonIds) => {
    const verdicts = await judgeAll(poisonIds);
    return poisonIds.map((poisonId) => verdicts.get(poisonId) ?? "gone");
  }, { maxSize: maxGroup, isItemsFault: isRefusedByDatabase });
}

function createJudgement(known: PoisonFacts, { verdict, task }: Ruling): Judgement {
  const error = known.origin === "row" ? known.error : verdict === "expected" ? task?.error ?? null : null;
  const likeness = {
    code: error?.code ?? known.reason.slice(0, 200),
    message: normalizeMessage(error?.message ?? known.description),
    at: error?.at ?? null,
    taskType: known.stage?.taskType ?? null,
    stageName: known.stage?.name ?? null,
  };
  return {
    poisonId: known.poisonId,
    verdict,
    fingerprint: fingerprintOf(likeness),
    ...likeness,
    jobId: known.jobId,
    stageId: known.stageId,
    attempt: known.attempt ?? task?.attempt ?? null,
    error,
  };
}

const levels = { unhandled: "error", contradiction: "warn", orphan: "warn", unreadable: "warn" } as const;

function logVerdict(log: Logger, known: PoisonFacts, { verdict, fingerprint, code }: Judgement): void {
  const { poisonId, transport, queue, jobId, stageId, correlationId, reason, kind } = known;
  const level = verdict in levels ? levels[verdict as keyof typeof levels] : "info";
  log[level](
    { poisonId, verdict, fingerprint, code, transport, queue, kind, reason, jobId, stageId, correlationId },
    "poison judged",
  );
}

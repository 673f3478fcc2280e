import { type CountedStage, findUnbalancedStages, listStageSlices } from "../../../shared/store/damage/balance.ts";
import { recountStage } from "../../../shared/store/damage/repairs.ts";
import type { FindingKind } from "../../../shared/contracts/reconciliation.ts";
import { type Check, type Finding, type Found, maxListed, once, toFinding, together } from "./check.ts";

/** The counters of every stage, and its StageResult, against a full count of its tasks; slice by slice, each one snapshot. */
export const checkBalance: Check = {
  name: "balance of stages",
  ...once(async ({ sql }) => {
    const parts: Found[] = [];
    for (const slice of await listStageSlices(sql, { onlyAlive: false })) {
      const stages = await findUnbalancedStages(sql, slice, maxListed);
      const findings = stages.flatMap(describeStage);
      const { gaps = 0, unbalanced = 0, contradictions = 0, resultsMissing = 0 } = stages[0]?.totals ?? {};
      const totals = new Map<FindingKind, number>(
        ([
          ["index-gap", gaps],
          ["counter-mismatch", unbalanced],
          ["contradiction", contradictions],
          ["result-missing", resultsMissing],
        ] as const).filter(([, total]) => total > 0),
      );
      parts.push({ findings, totals, tasks: slice.tasks });
    }
    return together(parts);
  }),
  async mend({ sql, id }, findings) {
    const mended = new Set<Finding>();
    for (const finding of findings) {
      if (finding.kind !== "counter-mismatch" || finding.stage_id === null) continue;
      // The batches that it locked for us are left to the relay: this role sends nothing.
      if (await recountStage(sql, id, finding.stage_id) !== null) mended.add(finding);
    }
    return mended;
  },
};

function describeStage(stage: CountedStage): readonly Finding[] {
  const { jobId, stageId, counted } = stage;
  const place = { subject_type: "stage", subject_id: stageId, job_id: jobId, stage_id: stageId } as const;
  const says = `planned ${stage.planned}, completed ${stage.completed}, failed ${stage.failed}, cancelled ${stage.cancelled}`;
  const are = `${counted.total} tasks, completed ${counted.completed}, failed ${counted.failed}, cancelled ${counted.cancelled}`;
  const findings: Finding[] = [];
  if (stage.hasGap) {
    findings.push(toFinding("index-gap", {
      ...place,
      severity: "error",
      message: `tasks of stage ${stageId} of job ${jobId} are missing: its row says ${says}; there are ${are}`,
      suggested_action:
        "restore the rows from a backup, or cancel the job and submit it again; nothing opens the barrier until then",
    }));
    return findings;
  }
  if (stage.isUnbalanced) {
    findings.push(toFinding("counter-mismatch", {
      ...place,
      severity: "error",
      message:
        `the counters of stage ${stageId} of job ${jobId} are wrong: its row says ${says}, next index ${stage.nextIndex}; there are ${are}`,
      suggested_action: "apply: counts again under the stage's lock and evaluates its barrier",
      repairable: !stage.isReducingTooEarly,
    }));
  }
  if (stage.isReducingTooEarly) {
    findings.push(toFinding("contradiction", {
      ...place,
      severity: "error",
      message: `stage ${stageId} of job ${jobId} is being reduced although some of its tasks are open: there are ${are}`,
      suggested_action: "cancel the job and submit it again",
    }));
  }
  if (stage.contradictsResult) {
    findings.push(toFinding("contradiction", {
      ...place,
      severity: "error",
      message: `the result of stage ${stageId} of job ${jobId} counts its tasks otherwise than they are: there are ${are}`,
      suggested_action: "compare the stage's result with its tasks; submit the job again if the result can't be trusted",
    }));
  }
  if (stage.lacksResult || stage.badResults > 0) {
    findings.push(toFinding("result-missing", {
      ...place,
      severity: "error",
      message: stage.lacksResult
        ? `stage ${stageId} of job ${jobId} completed without a result`
        : `${stage.badResults} tasks of stage ${stageId} of job ${jobId} have no result of their last attempt, or one too many`,
      suggested_action: "submit the job again",
    }));
  }
  return findings;
}

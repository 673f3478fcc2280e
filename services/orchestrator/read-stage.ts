import type { ClaimCheck } from "../../shared/claim-check/claim-check.ts";
import { JsonObject, parse } from "../../shared/contracts/parse.ts";
import type { TaskOutcome } from "../../shared/contracts/stage-result.ts";
import type { EndedStage } from "../../shared/jobs/define-job.ts";
import type { Sql } from "../../shared/store/database.ts";
import type { EndedStageRow } from "../../shared/store/stages.ts";
import { readOutcomes } from "../../shared/store/tasks.ts";

/** The outcomes of a stage, large results fetched by the reference that the fenced write recorded. */
export async function* streamOutcomes(sql: Sql, claimCheck: ClaimCheck, stageId: number): AsyncGenerator<TaskOutcome> {
  for await (const { resultRef, ...outcome } of readOutcomes(sql, stageId)) {
    if (resultRef === null) {
      yield outcome;
      continue;
    }
    let result: JsonObject | null = null;
    for await (const line of claimCheck.readLines(resultRef)) result = parse(JsonObject, line, "contract-violation");
    yield { ...outcome, result };
  }
}

export function readEndedStage(sql: Sql, claimCheck: ClaimCheck, { stageId, result }: EndedStageRow): EndedStage {
  return { result, outcomes: () => streamOutcomes(sql, claimCheck, stageId) };
}

import { createHash } from "node:crypto";
import * as v from "valibot";
import type { ClaimCheck } from "../../shared/claim-check/claim-check.ts";
import { StageMessage, StartJobMessage, TasksMessage } from "../../shared/contracts/messages.ts";
import { parseJson } from "../../shared/contracts/parse.ts";
import { salvageIds } from "../../shared/contracts/salvage.ts";
import { storableText } from "../../shared/errors.ts";
import { createGroup } from "../../shared/group.ts";
import { isRefusedByDatabase, type Sql } from "../../shared/store/database.ts";
import { type PoisonFinding, recordPoison, type Verdict } from "../../shared/store/poison.ts";
import type { MessageHandler } from "../../shared/transport/consume.ts";
import { complete, type LockedMessage } from "../../shared/transport/transport.ts";
import type { TransportName } from "../../shared/transports.ts";

export interface TakeIn {
  readonly sql: Sql;
  readonly claimCheck: ClaimCheck;
  readonly judge: (poisonId: number) => Promise<Verdict | "gone">;
}

/** Where the dead letters are that a handler takes in. */
export interface PoisonSource {
  readonly transport: TransportName;
  /** The queue that they are received from, or whose dead letters they are. */
  readonly queue: string;
}

const headCharacters = 1_000;
const maxDescription = 2_000;
const maxIdentity = 500;
const Hint = v.variant("kind", [StartJobMessage, StageMessage, TasksMessage]);

/**
 * Takes dead letters in: the record first, then the verdict with what it calls for; the message leaves the broker last. Whatever
 * fails in between comes again, and finds the record. It never refuses a message: there is nowhere left to put one.
 */
export function createTakeIn({ sql, claimCheck, judge }: TakeIn): (source: PoisonSource) => MessageHandler {
  const record = createGroup((findings: readonly PoisonFinding[]) => recordPoison(sql, findings), {
    maxSize: 200,
    isItemsFault: isRefusedByDatabase,
  });
  return (source) => async (message, delivery) => {
    const finding = describeFinding(message, source);
    delivery.identify({ jobId: finding.jobId ?? undefined, reason: finding.reason });
    delivery.phase("parsed");
    const { poisonId, verdict } = await record(await keepBody(claimCheck, finding, message.body, delivery.signal));
    delivery.identify({ poisonId });
    delivery.phase("recorded");
    if (verdict === null) await judge(poisonId);
    delivery.phase("judged");
    return complete;
  };
}

/** A body that is longer than its head is kept whole under a key of its own, so that a second delivery replaces it by the same. */
async function keepBody(
  claimCheck: ClaimCheck,
  finding: PoisonFinding,
  body: string,
  signal: AbortSignal,
): Promise<PoisonFinding> {
  if (body.length <= headCharacters) return finding;
  const { transport, queue, identity } = finding;
  const key = `poison/${transport}/${hashOf(`${queue}/${identity}`)}`;
  return { ...finding, bodyRef: await claimCheck.writeLines(key, [body], signal) };
}

function describeFinding(message: LockedMessage, source: PoisonSource): PoisonFinding {
  const { body, deadLettered } = message;
  const queue = deadLettered?.source ?? source.queue;
  return {
    transport: source.transport,
    queue,
    // Forwarded ones are numbered in the queue they were forwarded to.
    identity: shortenId(queue === source.queue ? message.identity : `${source.queue}/${message.identity}`),
    messageId: storableText(message.messageId),
    reason: storableText(deadLettered?.reason || "unknown").slice(0, 200),
    description: storableText(deadLettered?.description ?? "").slice(0, maxDescription),
    deliveryCount: message.deliveryCount,
    bodyHead: storableText(body.slice(0, headCharacters)),
    bodySize: body.length,
    bodyHash: hashOf(body),
    bodyRef: null,
    ...readIds(body),
  };
}

function readIds(body: string): Pick<PoisonFinding, "kind" | "jobId" | "stageId" | "taskIds" | "run"> {
  try {
    const hint = parseJson(Hint, body);
    return {
      kind: hint.kind,
      jobId: hint.jobId,
      run: hint.run,
      stageId: "stageId" in hint ? hint.stageId : null,
      taskIds: "taskIds" in hint ? [...new Set(hint.taskIds)] : [],
    };
  } catch {
    const { jobId = null, stageId = null, taskIds = [] } = salvageIds(body);
    return { kind: null, jobId, stageId, taskIds, run: null };
  }
}

/** An id that somebody made up may be longer than what an index holds. */
function shortenId(id: string): string {
  return id.length <= maxIdentity ? storableText(id) : `sha256-${hashOf(id)}`;
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

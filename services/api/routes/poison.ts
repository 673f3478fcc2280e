import { type Context, Hono } from "hono";
import * as v from "valibot";
import type { ClaimCheck } from "../../../shared/claim-check/claim-check.ts";
import { JobId, RowId } from "../../../shared/contracts/ids.ts";
import { parse } from "../../../shared/contracts/parse.ts";
import { PermanentError } from "../../../shared/errors.ts";
import { alertKinds, alertStatuses } from "../../../shared/store/alerts.ts";
import type { Sql } from "../../../shared/store/database.ts";
import {
  findGroup,
  findPoison,
  groupStates,
  listAlerts,
  type ListedGroup,
  type ListedPoison,
  listGroups,
  listPoison,
  poisonStatuses,
} from "../../../shared/store/poison-listings.ts";
import { resolveGroup, verdicts } from "../../../shared/store/poison.ts";
import { transportNames } from "../../../shared/transports.ts";
import { requireAdmin } from "../admin.ts";
import { Problem } from "../problem.ts";
import { cursor, encodeCursor, limit, readQuery, since } from "../read-query.ts";
import type { Redact } from "../redact.ts";
import { natureOf, suggestAction } from "../suggest-action.ts";

const Fingerprint = v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/, "must be 16 lower-case hex digits"));
const name = v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(300)));
const GroupCursor = v.object({
  lastSeenAtUs: v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(4e15)),
  fingerprint: Fingerprint,
});
const PathId = v.pipe(v.string(), v.regex(/^\d{1,15}$/, "must be a number"), v.transform(Number), RowId);

export interface PoisonDependencies {
  readonly sql: Sql;
  /** Where whole bodies are; throws if this process has none. */
  readonly openClaimCheck: () => ClaimCheck;
  readonly redact: Redact;
  readonly isAdminAllowed: (context: Context) => boolean;
}

/** What died on its way, the groups that it falls into, and who was told: `/api/poison`. */
export function createPoisonRoutes({ sql, openClaimCheck, redact, isAdminAllowed }: PoisonDependencies): Hono {
  return new Hono()
    .get("/messages", async (context) => {
      const { job_id, task_type, cursor: after, ...query } = readQuery(context, {
        job_id: v.optional(JobId),
        verdict: v.optional(v.picklist(verdicts)),
        transport: v.optional(v.picklist(transportNames)),
        queue: name,
        fingerprint: v.optional(Fingerprint),
        task_type: name,
        status: v.optional(v.picklist(poisonStatuses)),
        since,
        limit: limit(1000, 50),
        cursor: cursor(RowId),
      });
      const { rows, next } = await listPoison(sql, { ...query, jobId: job_id, taskType: task_type, after });
      return context.json({ messages: rows.map((row) => describeMessage(row, redact)), next_cursor: encodeCursor(next) });
    })
    .get("/messages/:poison_id", async (context) => {
      const { poison_id: poisonId } = parse(v.object({ poison_id: PathId }), context.req.param());
      const query = readQuery(context, { body: v.optional(v.picklist(["head", "full"]), "head") });
      if (query.body === "full") requireAdmin(isAdminAllowed(context));
      const message = await findPoison(sql, poisonId);
      if (!message) throw new Problem("not-found", `no poison message has the id ${poisonId}`);
      const described = describeMessage(message, redact);
      if (query.body === "head") return context.json(described);
      const whole = message.body_ref === null ? message.body_head : await readBody(openClaimCheck, message.body_ref);
      context.get("log").info({ poisonId }, "whole body of a poison message read");
      return context.json({ ...described, body: { ...described.body, full: redact(whole) } });
    })
    .get("/groups", async (context) => {
      const { task_type, cursor: after, ...query } = readQuery(context, {
        state: v.optional(v.picklist(groupStates)),
        code: name,
        task_type: name,
        since,
        limit: limit(200, 50),
        cursor: cursor(GroupCursor),
      });
      const { rows, next } = await listGroups(sql, { ...query, taskType: task_type, after });
      return context.json({ groups: rows.map((row) => describeGroup(row, redact)), next_cursor: encodeCursor(next) });
    })
    .get("/groups/:fingerprint", async (context) => {
      readQuery(context, {});
      return context.json(await readGroup(readFingerprint(context)));
    })
    .post("/groups/:fingerprint/resolve", async (context) => {
      requireAdmin(isAdminAllowed(context));
      readQuery(context, {});
      const fingerprint = readFingerprint(context);
      if (await resolveGroup(sql, fingerprint)) context.get("log").warn({ fingerprint }, "poison group resolved");
      return context.json(await readGroup(fingerprint));
    })
    .get("/alerts", async (context) => {
      const { cursor: after, ...query } = readQuery(context, {
        status: v.optional(v.picklist(alertStatuses)),
        kind: v.optional(v.picklist(alertKinds)),
        fingerprint: v.optional(Fingerprint),
        limit: limit(1000, 50),
        cursor: cursor(RowId),
      });
      const { rows, next } = await listAlerts(sql, { ...query, after });
      return context.json({ alerts: rows, next_cursor: encodeCursor(next) });
    });

  async function readGroup(fingerprint: string) {
    const group = await findGroup(sql, fingerprint);
    if (!group) throw new Problem("not-found", `no failures have the fingerprint ${fingerprint}`);
    return describeGroup(group, redact);
  }
}

function readFingerprint(context: Context): string {
  return parse(v.object({ fingerprint: Fingerprint }), context.req.param()).fingerprint;
}

async function readBody(openClaimCheck: () => ClaimCheck, ref: string): Promise<string> {
  try {
    for await (const line of openClaimCheck().readLines(ref)) return String(line);
  } catch (error) {
    if (!(error instanceof PermanentError)) throw error;
    throw new Problem("not-found", "the whole body is not kept where this process looks", { cause: error });
  }
  throw new Problem("not-found", "the whole body is empty");
}

function describeMessage(message: ListedPoison, redact: Redact) {
  const { body_head, body_size, body_hash, body_ref, description, error, fingerprint, job_id, ...rest } = message;
  return {
    ...rest,
    job_id,
    fingerprint,
    description: redact(description),
    error: error && { ...error, message: redact(error.message) },
    body: { head: redact(body_head), is_whole: body_ref === null, size: body_size, sha256: body_hash },
    links: {
      ...(fingerprint !== null && { group: `/api/poison/groups/${fingerprint}` }),
      ...(job_id !== null && { job: `/api/jobs/status/${job_id}` }),
    },
  };
}

function describeGroup(group: ListedGroup, redact: Redact) {
  const { last_hour, hour_before, tried_again, succeeded_later, failed_again, message, ...rest } = group;
  return {
    ...rest,
    message: redact(message),
    trend: {
      last_hour,
      hour_before,
      direction: last_hour > hour_before ? "rising" : last_hour < hour_before ? "falling" : "steady",
    },
    nature: natureOf(group),
    evidence: { tried_again, succeeded_later, failed_again },
    action: suggestAction(group),
    links: { messages: `/api/poison/messages?fingerprint=${group.fingerprint}` },
  };
}

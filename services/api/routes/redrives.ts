import { type Context, Hono } from "hono";
import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { RowId } from "../../../shared/contracts/ids.ts";
import { parse } from "../../../shared/contracts/parse.ts";
import { NewRedrive } from "../../../shared/contracts/poison-selection.ts";
import { PermanentError } from "../../../shared/errors.ts";
import type { JobCatalog } from "../../../shared/jobs/catalog.ts";
import { checkParameters } from "../../../shared/jobs/check-parameters.ts";
import type { Sql } from "../../../shared/store/database.ts";
import {
  type CheckEdited,
  createRedrive,
  findRedrive,
  freezeSelection,
  itemStatuses,
  listItems,
  listRedrives,
  type RedriveDetails,
  redriveStatuses,
  startRedrive,
  stopRedrive,
} from "../../../shared/store/redrives.ts";
import { requireAdmin } from "../admin.ts";
import { readOperator } from "../operator.ts";
import { Problem } from "../problem.ts";
import { readBody } from "../read-body.ts";
import { cursor, encodeCursor, limit, readQuery } from "../read-query.ts";

/** A selection that takes longer goes on being frozen after the answer. */
const answerWithinMs = 10_000;

const Start = v.strictObject({ expected_items: v.pipe(v.number(), v.integer(), v.minValue(0)) });
const Stop = v.strictObject({ reason: v.optional(v.pipe(v.string(), v.maxLength(1_000)), "an operator stopped it") });

export interface RedriveDependencies {
  readonly sql: Sql;
  readonly jobs: JobCatalog;
  readonly isAdminAllowed: (context: Context) => boolean;
  readonly remoteAddress: (context: Context) => string | undefined;
}

/** Opens failed work again: `/api/poison/redrives`. Only intents are written here; a poison-handler carries them out. */
export function createRedriveRoutes({ sql, jobs, isAdminAllowed, remoteAddress }: RedriveDependencies): Hono {
  const checkEdited = createEditCheck(jobs);
  return new Hono()
    .get("/", async (context) => {
      const query = readQuery(context, {
        status: v.optional(v.picklist(redriveStatuses)),
        limit: limit(100, 20),
        cursor: cursor(RowId),
      });
      const rows = await listRedrives(sql, { status: query.status, limit: query.limit + 1, before: query.cursor });
      const redrives = rows.slice(0, query.limit);
      const next = rows.length > query.limit ? redrives.at(-1)?.redrive_id ?? null : null;
      return context.json({ redrives, next_cursor: encodeCursor(next) });
    })
    .post("/", async (context) => {
      requireAdmin(isAdminAllowed(context));
      const by = readOperator(context, remoteAddress(context));
      const request = parse(NewRedrive, await readBody(context));
      const log = context.get("log");
      const selecting = await createRedrive(sql, by, request);
      const { redriveId } = selecting;
      const frozen = freezeSelection(sql, selecting, { request, checkEdited });
      frozen.catch(async (error: unknown) => {
        log.error({ err: error, redriveId }, "selection could not be frozen");
        await stopRedrive(sql, redriveId, { by: null, reason: "its selection could not be frozen" }).catch(() => {});
      });
      const isFrozen = await Promise.race([frozen.then(() => true), sleep(answerWithinMs, false, { ref: false })]);
      const redrive = await getRedrive(sql, redriveId);
      log.warn({ redriveId, by, items: redrive.items, status: redrive.status }, "redrive previewed");
      context.header("location", `/api/poison/redrives/${redriveId}`);
      return context.json(redrive, isFrozen ? 201 : 202);
    })
    .get("/:redrive_id", async (context) => context.json(await getRedrive(sql, readRedriveId(context))))
    .get("/:redrive_id/items", async (context) => {
      const redriveId = readRedriveId(context);
      const query = readQuery(context, {
        outcome: v.optional(v.picklist(itemStatuses)),
        limit: limit(1_000, 100),
        cursor: cursor(RowId),
      });
      const rows = await listItems(sql, { redriveId, status: query.outcome, limit: query.limit + 1, after: query.cursor });
      const items = rows.slice(0, query.limit);
      if (items.length === 0) await getRedrive(sql, redriveId);
      const next = rows.length > query.limit ? items.at(-1)?.item_id ?? null : null;
      return context.json({ redrive_id: redriveId, items, next_cursor: encodeCursor(next) });
    })
    .post("/:redrive_id/start", async (context) => {
      requireAdmin(isAdminAllowed(context));
      const redriveId = readRedriveId(context);
      const by = readOperator(context, remoteAddress(context));
      const { expected_items: expectedItems } = parse(Start, await readBody(context));
      const started = await startRedrive(sql, redriveId, { by, expectedItems });
      const redrive = await getRedrive(sql, redriveId);
      if (started === "conflict") {
        throw new Problem("redrive-conflict", `redrive ${redriveId} is ${redrive.status} and has ${redrive.items} items`);
      }
      if (started === "started") context.get("log").warn({ redriveId, by, items: redrive.items }, "redrive started");
      return context.json(redrive, started === "started" ? 202 : 200);
    })
    .post("/:redrive_id/stop", async (context) => {
      requireAdmin(isAdminAllowed(context));
      const redriveId = readRedriveId(context);
      const by = readOperator(context, remoteAddress(context));
      const { reason } = parse(Stop, await readBody(context));
      const stopped = await stopRedrive(sql, redriveId, { by, reason });
      if (stopped) context.get("log").warn({ redriveId, by }, "redrive stopped");
      return context.json(await getRedrive(sql, redriveId));
    });
}

function readRedriveId(context: Context): number {
  const text = context.req.param("redrive_id") ?? "";
  if (!/^[1-9]\d{0,14}$/.test(text)) throw new Problem("unknown-redrive", `no redrive has the id ${text.slice(0, 50)}`);
  return Number(text);
}

async function getRedrive(sql: Sql, redriveId: number): Promise<RedriveDetails> {
  const redrive = await findRedrive(sql, redriveId);
  if (!redrive) throw new Problem("unknown-redrive", `no redrive has the id ${redriveId}`);
  return redrive;
}

function createEditCheck(jobs: JobCatalog): CheckEdited {
  return ({ jobType, stage, parameters }) => {
    const task = jobs.get(jobType)?.stages[stage - 1]?.task;
    if (!task) return { problem: `no stage ${stage} of job type ${jobType} is known here` };
    try {
      return { parameters: checkParameters(task, "the task", parameters).parameters };
    } catch (error) {
      if (error instanceof PermanentError) return { problem: error.message.slice(0, 1_000) };
      throw error;
    }
  };
}

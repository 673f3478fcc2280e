import { type Context, Hono } from "hono";
import * as v from "valibot";
import { parse } from "../../../shared/contracts/parse.ts";
import { MessageSelection } from "../../../shared/contracts/poison-selection.ts";
import type { Sql } from "../../../shared/store/database.ts";
import { changePoison } from "../../../shared/store/discard-poison.ts";
import { requireAdmin } from "../admin.ts";
import { readOperator } from "../operator.ts";
import { readBody } from "../read-body.ts";

const Change = v.strictObject({ select: MessageSelection, note: v.optional(v.pipe(v.string(), v.maxLength(1_000))) });

export interface DiscardDependencies {
  readonly sql: Sql;
  readonly isAdminAllowed: (context: Context) => boolean;
  readonly remoteAddress: (context: Context) => string | undefined;
}

/** Poison messages that nothing will be done about: `/api/poison/messages/discard`, and `/restore`. */
export function createDiscardRoutes({ sql, isAdminAllowed, remoteAddress }: DiscardDependencies): Hono {
  const change = (how: "discard" | "restore") => async (context: Context) => {
    requireAdmin(isAdminAllowed(context));
    const by = readOperator(context, remoteAddress(context));
    const { select, note } = parse(Change, await readBody(context));
    const messages = await changePoison(sql, { change: how, selection: select, by, note });
    context.get("log").warn({ by, messages }, `poison messages: ${how}`);
    return context.json({ messages });
  };
  return new Hono().post("/discard", change("discard")).post("/restore", change("restore"));
}

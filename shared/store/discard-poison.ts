import type { MessageSelection } from "../contracts/poison-selection.ts";
import { type Sql, withConflictRetry } from "./database.ts";
import { selectsMessage } from "./redrive-selection.ts";
import { resolveGroups } from "./settle-items.ts";

const sliceSize = 2_000;

/**
 * Discards messages that nobody will do anything about, or restores those that were discarded; in slices, in the order of their
 * ids. Those that were redriven stay as they are. Returns how many were changed.
 */
export async function changePoison(
  sql: Sql,
  { change, selection, by, note }: {
    readonly change: "discard" | "restore";
    readonly selection: MessageSelection;
    readonly by: string;
    readonly note?: string | undefined;
  },
): Promise<number> {
  const [from, to] = change === "discard" ? ["new", "discarded"] : ["discarded", "new"];
  let changed = 0;
  for (let after: number | null = 0; after !== null;) {
    const begin: number = after;
    const slice = await withConflictRetry(() =>
      sql.begin(async (tx) => {
        const rows = await tx<{ id: number; fingerprint: string | null }[]>`
          with held as (
            select poison_messages.id from poison_messages
            left join stages on stages.id = poison_messages.stage_id left join jobs on jobs.id = poison_messages.job_id
            where poison_messages.id > ${begin} and poison_messages.status = ${from} and poison_messages.verdict is not null
              and ${selectsMessage(tx, selection)}
            order by poison_messages.id limit ${sliceSize} for update of poison_messages
          )
          update poison_messages set status = ${to}, status_by = ${by}, status_at = now()
          from held where poison_messages.id = held.id
          returning poison_messages.id, poison_messages.fingerprint`;
        const fingerprints = rows.flatMap(({ fingerprint }) => fingerprint ?? []);
        if (change === "discard") await resolveGroups(tx, fingerprints);
        else {
          await tx`
            update poison_groups set resolved_at = null
            where fingerprint in (select value from json_array_elements_text(${JSON.stringify(fingerprints)}::text::json))`;
        }
        if (rows.length > 0) {
          await tx`
            insert into events (kind, details) values (${`poison-${to === "new" ? "restored" : to}`}, ${
            tx.json({ by, messages: rows.length, select: selection as never, note: note ?? null })
          })`;
        }
        return rows;
      })
    );
    changed += slice.length;
    after = slice.length === sliceSize ? Math.max(...slice.map(({ id }) => id)) : null;
  }
  return changed;
}

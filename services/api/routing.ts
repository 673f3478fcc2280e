import { listRoutingRules, type RoutingRule } from "../../shared/store/routing-rules.ts";
import type { Sql } from "../../shared/store/database.ts";
import type { TransportName } from "../../shared/transports.ts";
import type { Routing } from "./choose-transport.ts";

/** A rule that was changed counts everywhere after so long; so a submission costs no statement for it. */
const maxAgeMs = 2_000;

export type RoutingOptions = Omit<Routing, "rules">;

/** Where new jobs go, by this process' settings and the rules in the database. */
export interface Router {
  /** With rules that are at most two seconds old. Rejects if they can't be read. */
  current(): Promise<Routing>;
  /** Reads the rules anew the next time. */
  forget(): void;
  readonly accepting: readonly TransportName[];
  isAway(transport: TransportName): boolean;
}

export function createRouter(sql: Sql, options: RoutingOptions): Router {
  let read: { readonly at: number; readonly rules: Promise<readonly RoutingRule[]> } | undefined;
  return {
    accepting: options.accepting,
    isAway: options.isAway,
    async current() {
      if (!read || performance.now() - read.at > maxAgeMs) {
        const rules = listRoutingRules(sql);
        read = { at: performance.now(), rules };
        rules.catch(() => (read = undefined));
      }
      return { ...options, rules: await read.rules };
    },
    forget() {
      read = undefined;
    },
  };
}

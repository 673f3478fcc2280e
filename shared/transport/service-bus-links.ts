import type { Connection, ConnectionSlot, Source } from "./service-bus-connection.ts";
import { type Link, type LinkOptions, openLink } from "./service-bus-link.ts";

/** The links of a process, as many for each source as receives at a time. */
export interface LinkPool {
  /** Calls with a link that nobody else uses meanwhile. */
  use<Result>(source: Source, call: (link: Link) => Promise<Result>): Promise<Result>;
  /** Ends the waits that nobody waits for any more, and the links. */
  close(): Promise<void>;
}

export function createLinkPool(connections: ConnectionSlot, giveBack: LinkOptions["giveBack"]): LinkPool {
  const idle = new Map<string, Link[]>();

  function take(source: Source, links: Link[], connection: Connection): Link {
    for (let link = links.pop(); link; link = links.pop()) {
      if (!link.isUsedUp) return link;
      link.retire();
    }
    return openLink(connection, { source, giveBack });
  }

  return {
    async use(source, call) {
      const key = `${source.from} ${source.queue}`;
      const links = idle.get(key) ?? [];
      idle.set(key, links);
      const link = take(source, links, connections.current());
      try {
        return await call(link);
      } finally {
        if (link.isUsedUp) link.retire();
        else links.push(link);
      }
    },
    async close() {
      await Promise.all([...idle.values()].flat().map((link) => link.close()));
    },
  };
}

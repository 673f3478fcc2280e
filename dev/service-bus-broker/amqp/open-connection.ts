import type { Connection, EventContext, link, Receiver, Sender, Session } from "rhea";
import { Refusal } from "../queue/refusal.ts";
import type { Right } from "../shared-access-key.ts";
import { openAcceptingLink } from "./accepting-link.ts";
import type { Broker } from "./broker.ts";
import { putToken } from "./cbs.ts";
import { createClaims } from "./claims.ts";
import { openDeliveringLink } from "./delivering-link.ts";
import { manage } from "./management.ts";
import type { OpenLink } from "./open-link.ts";
import { refusalReply, type Reply, type Request, sendReply, spellings } from "./reply.ts";
import { linkInternals, sessionInternals } from "./rhea-internals.ts";

/** Marks a message of the standard format that rhea shall leave undecoded. */
const rawFormat = 0x7ffffff0;
const requestCredit = 200;

/** One connection of a client, with its links. */
export interface OpenConnection {
  readonly connection: Connection;
  readonly links: ReadonlyMap<link, OpenLink>;
  /** Since when it has had no link of a queue; undefined while it has one. */
  readonly linklessSince: number | undefined;
  onSession(session: Session): void;
  onSender(link: Sender): void;
  onReceiver(link: Receiver): void;
  onLinkClosed(link: link): void;
  /** Whether its tokens still allow that. */
  allows(right: Right, address: string): boolean;
  /** Detaches links as the broker's doing. */
  detach(which: (open: OpenLink) => { condition: string; description: string } | undefined): number;
  ended(): void;
}

export function createOpenConnection(broker: Broker, connection: Connection): OpenConnection {
  const claims = createClaims(broker.host);
  const links = new Map<link, OpenLink>();
  /** Links that replies go out on: by the name a request gives, which is that of the link or of its target. */
  const replyLinks = new Map<string, Sender>();
  let linklessSince: number | undefined = broker.clock.now();

  function keep(it: link, open: () => OpenLink): void {
    try {
      links.set(it, open());
      linklessSince = undefined;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      it.close({ condition: error.condition, description: error.message });
    }
  }

  function forget(it: link, byClient: boolean): void {
    links.get(it)?.ended(byClient);
    if (links.delete(it) && links.size === 0) linklessSince = broker.clock.now();
  }

  function answer(request: Request, spelling: (typeof spellings)[keyof typeof spellings], reply: () => Reply): void {
    const link = replyLinks.get(String(request.reply_to));
    if (!link?.is_open()) return; // nobody is there to hear it
    let answered: Reply;
    try {
      answered = reply();
    } catch (error) {
      answered = refusalReply(error);
    }
    sendReply(link, request, answered, spelling);
  }

  function serveRequests(link: Receiver, serve: (request: Request) => void): void {
    link.on("message", ({ message, delivery }: EventContext) => {
      delivery?.accept();
      if (linkInternals(link).credit <= requestCredit / 2) link.add_credit(requestCredit / 2);
      if (message) serve(message);
    });
    link.add_credit(requestCredit);
  }

  return {
    connection,
    links,
    get linklessSince() {
      return linklessSince;
    },
    onSession(session) {
      const { incoming } = sessionInternals(session);
      const onTransfer = incoming.on_transfer;
      incoming.on_transfer = function (frame, receiver) {
        if (links.has(receiver) && !frame.performative.message_format) frame.performative.message_format = rawFormat;
        onTransfer.call(this, frame, receiver);
      };
    },
    onReceiver(link) {
      const address = link.target?.address ?? "";
      link.set_target({ address });
      if (link.source) link.set_source(link.source);
      if (address === "$cbs") {
        serveRequests(link, (request) => answer(request, spellings.cbs, () => putToken(broker, claims, request)));
      } else if (isManagement(address)) {
        serveRequests(link, (request) => answer(request, spellings.management, () => manage(broker, claims, address, request)));
      } else keep(link, () => openAcceptingLink(broker, claims, link));
    },
    onSender(link) {
      const { address = "", filter } = link.source ?? {};
      link.set_source({ address, ...(filter && { filter }) });
      const replyTo = link.target?.address;
      link.set_target({ address: replyTo ?? "" });
      if (address === "$cbs" || isManagement(address)) {
        replyLinks.set(link.name, link);
        if (replyTo) replyLinks.set(replyTo, link);
      } else keep(link, () => openDeliveringLink(broker, claims, link));
    },
    onLinkClosed(link) {
      forget(link, true);
      for (const [name, reply] of replyLinks) if (reply === link) replyLinks.delete(name);
    },
    allows: (right, address) => claims.has(right, address, broker.clock.now()),
    detach(which) {
      let count = 0;
      for (const [link, open] of [...links]) {
        const error = which(open);
        if (!error) continue;
        forget(link, false);
        link.close(error);
        count++;
      }
      return count;
    },
    ended() {
      for (const link of [...links.keys()]) forget(link, true);
      replyLinks.clear();
    },
  };
}

function isManagement(address: string): boolean {
  return address.toLowerCase().endsWith("/$management");
}

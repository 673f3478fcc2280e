import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Clock } from "../clock.ts";
import type { AmqpContent } from "../amqp/content.ts";
import type { Namespace } from "../queue/namespace.ts";
import { Refusal, unauthorized } from "../queue/refusal.ts";
import type { Tier } from "../queue/tier.ts";
import { checkSasToken } from "../sas-token.ts";
import { includesRight, type SharedAccessKeys } from "../shared-access-key.ts";
import { escapeXml } from "./escape-xml.ts";
import { createQueueFeed } from "./queue-feed.ts";
import { namespaceEntry } from "./namespace-entry.ts";

export interface Administration {
  readonly port: number;
  /** Again, on the same port. */
  listen(): Promise<void>;
  close(): Promise<void>;
}

export interface AdministrationOptions {
  readonly namespace: Namespace<AmqpContent>;
  readonly clock: Clock;
  readonly keys: SharedAccessKeys;
  readonly tier: Tier;
  readonly port: number;
  readonly host: string;
  deleted(queue: string): void;
}

const maxBodyBytes = 262_144;

/** The part of Azure's ATOM API that is about queues, over plain HTTP. */
export async function startAdministration(
  { namespace, clock, keys, tier, host, deleted, ...options }: AdministrationOptions,
): Promise<Administration> {
  let { port } = options;
  const feed = createQueueFeed(namespace, clock, deleted);
  const server = createServer((request, response) => void answer(request, response));

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const body = await read(request);
      const url = new URL(request.url ?? "/", `http://${request.headers.host ?? "localhost"}`);
      const path = decodeURIComponent(url.pathname).slice(1);
      authorize(request.headers.authorization ?? "", path.toLowerCase());
      const { status, xml } = path.toLowerCase() === "$namespaceinfo"
        ? { status: 200, xml: namespaceEntry(tier, url.origin) }
        : feed(request.method ?? "GET", path, url, { body, isUpdate: request.headers["if-match"] !== undefined });
      response.writeHead(status, { "content-type": "application/atom+xml;type=entry;charset=utf-8" }).end(xml);
    } catch (error) {
      const { status, message } = error instanceof Refusal ? error : new Refusal("amqp:internal-error", 500, String(error));
      response.writeHead(status, { "content-type": "application/xml; charset=utf-8" });
      response.end(`<Error><Code>${status}</Code><Detail>${escapeXml(message)}</Detail></Error>`);
    }
  }

  function authorize(token: string, queue: string): void {
    const { rights } = checkSasToken(token, queue, { keys, now: clock.now() });
    if (!includesRight(rights, "Manage")) throw unauthorized("SubCode=40100. Unauthorized: 'Manage' claim(s) are required.");
  }

  async function listen(): Promise<void> {
    server.listen(port, host);
    await once(server, "listening");
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error(`no port: ${address}`);
    port = address.port;
  }

  await listen();
  return {
    port,
    listen,
    async close() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function read(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > maxBodyBytes) throw new Refusal("com.microsoft:argument-error", 413, "The request is too large.");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

import type { AmqpContent } from "../amqp/content.ts";
import type { Clock } from "../clock.ts";
import type { Namespace } from "../queue/namespace.ts";
import type { Queue } from "../queue/queue.ts";
import { entityNotFound, Refusal } from "../queue/refusal.ts";
import { defaultQueueSettings } from "../queue/settings.ts";
import { escapeXml } from "./escape-xml.ts";
import { describeQueue, parseDescription } from "./queue-description.ts";

interface Answer {
  readonly status: number;
  readonly xml: string;
}

/** Answers requests for one queue (`/<queue>`) or all (`/$Resources/Queues`). Throws a Refusal. */
export function createQueueFeed(namespace: Namespace<AmqpContent>, clock: Clock, deleted: (queue: string) => void) {
  function entry(queue: Queue<AmqpContent>, origin: string): string {
    const address = escapeXml(`${origin}/${queue.name}?api-version=2021-05`);
    return `<entry xmlns="http://www.w3.org/2005/Atom"><id>${address}</id><title type="text">${escapeXml(queue.name)}</title>` +
      `<published>${iso(queue.times.createdAt)}</published><updated>${iso(queue.times.modifiedAt)}</updated>` +
      `<author><name>localhost</name></author><link rel="self" href="${address}"/>` +
      `<content type="application/xml">${describeQueue(queue, origin)}</content></entry>`;
  }

  function list(url: URL): Answer {
    const skip = Number(url.searchParams.get("$skip") ?? 0);
    const top = Number(url.searchParams.get("$top") ?? 100);
    const queues = namespace.queues().toSorted((a, b) => (a.name < b.name ? -1 : 1));
    const page = queues.slice(skip, skip + top).map((queue) => entry(queue, url.origin));
    const next = `${url.origin}/$Resources/Queues?api-version=2021-05&$skip=${skip + top}&$top=${top}`;
    const link = skip + top < queues.length ? `<link rel="next" href="${escapeXml(next)}"/>` : "";
    return {
      status: 200,
      xml: `<feed xmlns="http://www.w3.org/2005/Atom"><title type="text">Queues</title><id>${url.origin}/$Resources/Queues</id>` +
        `<updated>${iso(clock.now())}</updated><link rel="self" href="${url.origin}/$Resources/Queues"/>${link}${
          page.join("")
        }</feed>`,
    };
  }

  return function answer(
    method: string,
    path: string,
    url: URL,
    { body, isUpdate }: { body: string; isUpdate: boolean },
  ): Answer {
    if (path.toLowerCase() === "$resources/queues") return list(url);
    const queue = namespace.find(path);
    if (method === "PUT" && !isUpdate) {
      const created = namespace.create(path, parseDescription(body), clock.now());
      return { status: 201, xml: entry(created, url.origin) };
    }
    if (!queue) throw entityNotFound(path);
    switch (method) {
      case "GET":
        return { status: 200, xml: entry(queue, url.origin) };
      case "PUT": {
        // An update says everything: what it leaves out is reset.
        const updated = namespace.update(path, { ...defaultQueueSettings, ...parseDescription(body) }, clock.now());
        return { status: 200, xml: entry(updated, url.origin) };
      }
      case "DELETE":
        namespace.delete(path);
        deleted(queue.name);
        return { status: 200, xml: "" };
      default:
        throw new Refusal("amqp:not-implemented", 405, `${method} isn't something one can do with a queue.`);
    }
  };
}

function iso(time: number): string {
  return new Date(time).toISOString();
}

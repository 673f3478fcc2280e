import { Hono } from "hono";
import type { Logger } from "pino";
import type { Sql } from "../../../shared/store/database.ts";
import { countScheduledMessages } from "../../../shared/store/listings.ts";
import { queueName, type Transports } from "../../../shared/transport/send-batches.ts";
import { shareRunning, withTimeLimit } from "../../../shared/time-limit.ts";
import type { TransportName } from "../../../shared/transports.ts";
import { chooseRoute } from "../choose-transport.ts";
import type { Router } from "../routing.ts";

/** Brokers count at some cost: the same answer serves for a while. */
const cachedMs = 3_000;
const brokerMs = 2_500;

export interface QueueDependencies {
  readonly sql: Sql;
  readonly transports: Transports;
  readonly queueNames: ReadonlyMap<TransportName, readonly string[]>;
  readonly router: Router;
  readonly log: Logger;
}

interface QueueEntry {
  readonly transport: TransportName;
  readonly active_messages?: number;
  readonly dead_letter_messages?: number;
  readonly scheduled_messages?: number;
  readonly error?: string;
}

/** What waits where: `/api/admin/queue`. */
export function createQueueRoutes({ sql, transports, queueNames, router, log }: QueueDependencies): Hono {
  let read: { readonly at: number; readonly queues: Readonly<Record<string, QueueEntry>> } | undefined;

  const readQueues = shareRunning(async () => {
    const scheduled = new Map((await countScheduledMessages(sql)).map((row) => {
      const open = transports.get(row.transport);
      return [`${row.transport}/${open ? queueName(open.queues, row.queue) : row.queue}`, row.messages] as const;
    }));
    const lists = await Promise.all(
      [...transports].map(async ([name, { transport }]) =>
        await Promise.all((queueNames.get(name) ?? []).map(async (queue): Promise<readonly [string, QueueEntry]> => {
          try {
            const { active, deadLettered } = await withTimeLimit(transport.counts(queue), brokerMs);
            const messages = scheduled.get(`${name}/${queue}`) ?? 0;
            return [queue, {
              transport: name,
              active_messages: active,
              dead_letter_messages: deadLettered,
              scheduled_messages: messages,
            }];
          } catch (error) {
            log.warn({ err: error, transport: name, queue }, "can't count messages");
            return [queue, { transport: name, error: `the broker does not answer; waited up to ${brokerMs} ms` }];
          }
        }))
      ),
    );
    const queues: Record<string, QueueEntry> = {};
    // A stage's own queue has the same name on every transport.
    for (const [name, entry] of lists.flat()) queues[name in queues ? `${entry.transport}/${name}` : name] = entry;
    return read = { at: performance.now(), queues };
  });

  return new Hono().get("/status", async (context) => {
    const { queues } = read && performance.now() - read.at < cachedMs ? read : await readQueues();
    const anyJob = { jobId: "0".repeat(64), jobType: "", named: undefined, estimatedTasks: undefined };
    const { transport, fallbackFrom } = chooseRoute(anyJob, { ...await router.current(), rules: [] });
    const enabled = router.accepting.includes("service_bus");
    return context.json({
      service_bus_enabled: enabled,
      mode: transport,
      queues,
      fallback_mode: fallbackFrom !== null,
      ...(!enabled && { message: `Service Bus takes no new jobs here; these transports do: ${router.accepting.join(", ")}` }),
    });
  });
}

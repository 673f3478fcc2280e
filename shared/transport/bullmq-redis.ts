import { createRedisBackend, type IQueueBackend } from "bullmq";
import { Redis } from "ioredis";
import { arrivalSeconds, type BackendOptions, type BullmqBroker, type BullmqLocks } from "./bullmq-broker.ts";

/** One connection for all commands, and one for each queue that is received from, as a blocking pop takes it whole. */
export function openRedisBroker(redisUrl: string, locks: BullmqLocks): BullmqBroker {
  // Commands reject after two failed reconnects instead of waiting for ever. A repeated command is harmless: adding a job keeps
  // the first one of an id, and a claim whose answer was lost expires.
  const connection = new Redis(redisUrl, {
    maxRetriesPerRequest: 2,
    commandTimeout: 10_000,
    keepAlive: 10_000,
    retryStrategy: (attempt) => Math.min(50 * attempt, 1_000),
  });
  connection.on("error", () => {}); // every command that fails by it rejects
  const backends = new Map<string, IQueueBackend>();
  const blocking = new Map<string, Redis>();

  function backendOf(queue: string): IQueueBackend {
    const known = backends.get(queue);
    if (known) return known;
    // Skips what would make opening fail, once and for good, while Redis is away.
    const options: BackendOptions<Redis> = { ...locks, connection, skipVersionCheck: true, skipWaitingForReady: true };
    const backend = createRedisBackend(queue, options);
    backend.on("error", () => {});
    backends.set(queue, backend);
    return backend;
  }

  function blockingConnectionOf(queue: string): Redis {
    const known = blocking.get(queue);
    if (known) return known;
    const opened = connection.duplicate({ maxRetriesPerRequest: 0, commandTimeout: (arrivalSeconds + 3) * 1_000 });
    opened.on("error", () => {});
    blocking.set(queue, opened);
    return opened;
  }

  return {
    async backend(queue) {
      return backendOf(queue);
    },
    async arrival(queue) {
      // As BullMQ's worker waits: every way a job can become available sets this marker. BullMQ's own `waitForJob` would hang on
      // a command that was interrupted, until its watchdog comes.
      await blockingConnectionOf(queue).bzpopmin(backendOf(queue).toKey("marker"), arrivalSeconds);
    },
    async close() {
      for (const opened of blocking.values()) opened.disconnect();
      await connection.quit().catch(() => connection.disconnect());
    },
  };
}

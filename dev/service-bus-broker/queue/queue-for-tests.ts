import type { TestContent } from "./content-for-tests.ts";
import { createQueue, type Queue } from "./queue.ts";
import { defaultQueueSettings, type QueueSettings } from "./settings.ts";

/** A queue whose lock tokens are "lock-1", "lock-2", … */
export function testQueue(settings: Partial<QueueSettings> = {}, name = "orders"): Queue<TestContent> {
  let tokens = 0;
  return createQueue<TestContent>(name, { ...defaultQueueSettings, lockDurationMs: 10_000, ...settings }, {
    createdAt: 0,
    createLockToken: () => `lock-${++tokens}`,
    available() {},
    deadline() {},
  });
}

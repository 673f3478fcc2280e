import { expect, test } from "vitest";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import { openStorageQueueTransport } from "../../shared/transport/storage-queue.ts";
import type { LockedMessage, Transport } from "../../shared/transport/transport.ts";
import { startAzurite } from "../support/azurite.ts";
import { createTestDatabase } from "../support/database.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { startPostgresProxy } from "../support/postgres-proxy.ts";

// Where dead-lettering is a copy and a removal, a process may die between them, and the next delivery makes a second copy.

async function receive(transport: Transport, from: "queue" | "dead-letters", wait = 8_000): Promise<LockedMessage | undefined> {
  const signal = AbortSignal.timeout(wait);
  while (!signal.aborted) {
    const [message] = await transport.receive("tasks", { max: 1, signal, from });
    if (message) return message;
  }
  return undefined;
}

/** Takes it out of the dead letters for good, as the poison-handler does. */
async function takeIn(transport: Transport, wait?: number): Promise<string | undefined> {
  const dead = await receive(transport, "dead-letters", wait);
  await dead?.complete();
  return dead?.identity;
}

test("Queue Storage: a dead letter that is copied twice has one identity", { timeout: 60_000 }, async () => {
  const azurite = await startAzurite();
  const proxy = await startFaultProxy(azurite.connectionString.match(/QueueEndpoint=([^;]+)/)?.[1] ?? "");
  const own = openStorageQueueTransport(azurite, { lockMs: 2_000 });
  const broken = openStorageQueueTransport({
    connectionString: azurite.connectionString.replace(/QueueEndpoint=[^;]+/, `QueueEndpoint=${proxy.url}`),
  }, { lockMs: 2_000 });
  await own.provision(["tasks"]);
  await own.send("tasks", [{ messageId: "a", body: "damaged" }]);
  proxy.setFault((_, line) => (line.startsWith("DELETE") ? { status: 400, code: "InvalidInput" } : undefined));

  const first = await receive(broken, "queue");
  await expect(first?.moveToDeadLetters("invalid-message", "")).rejects.toThrow();
  const taken = await takeIn(own);
  const second = await receive(own, "queue");
  expect(second?.identity).toBe(first?.identity);
  await second?.moveToDeadLetters("invalid-message", "");
  expect(taken).toBeTruthy();
  expect(await takeIn(own)).toBe(taken);

  await Promise.all([own.close(), broken.close()]);
  await proxy.stop();
  await azurite.stop();
});

test(
  "BullMQ: a dead letter that is copied twice has one identity, whichever statement the process died at",
  { timeout: 60_000 },
  async () => {
    const database = await createTestDatabase();
    const proxy = await startPostgresProxy(database.url);
    const own = openBullmqTransport({ databaseUrl: database.url }, { lockMs: 1_000 });
    const broken = openBullmqTransport({ databaseUrl: proxy.url }, { lockMs: 1_000 });
    await own.provision(["tasks"]);
    let copiedTwice = 0;
    for (let n = 1; n <= 4; n++) {
      await own.send("tasks", [{ messageId: `m${n}`, body: "damaged" }]);
      const first = await receive(broken, "queue");
      proxy.setFault((statement) => (statement === n ? "lose-answer" : undefined));
      await first?.moveToDeadLetters("invalid-message", "").catch(() => {});
      proxy.setFault(null);
      const taken = await takeIn(own, 300);
      const second = await receive(own, "queue", 2_500);
      await second?.moveToDeadLetters("invalid-message", "");
      const again = second && await takeIn(own);
      expect(taken ?? again, `message ${n}`).toBeTruthy();
      if (taken === undefined || again === undefined) continue;
      copiedTwice += 1;
      expect(again).toBe(taken);
    }
    expect(copiedTwice).toBeGreaterThan(0);
    await Promise.all([own.close(), broken.close()]);
    await proxy.stop();
    await database.drop();
  },
);

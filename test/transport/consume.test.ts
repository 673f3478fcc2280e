import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { expect, test } from "vitest";
import { PermanentError } from "../../shared/errors.ts";
import { consume, type ConsumeOptions, type MessageHandler } from "../../shared/transport/consume.ts";
import { openMemoryTransport } from "../../shared/transport/memory.ts";
import { complete, type Transport } from "../../shared/transport/transport.ts";

const log = pino({ level: "silent" });
const away = () => Object.assign(new Error("the database is away"), { code: "ECONNREFUSED" });

async function withQueue(
  handle: MessageHandler,
  options: Partial<ConsumeOptions>,
  use: (transport: Transport, stop: () => Promise<void>) => Promise<void>,
) {
  const transport = openMemoryTransport({ lockMs: 300, maxBodyBytes: 4_000_000 });
  const stopping = new AbortController();
  const consuming = consume(transport, "q", handle, {
    concurrency: 2,
    graceMs: 500,
    signal: stopping.signal,
    log,
    probeDatabase: () => Promise.resolve(),
    ...options,
  });
  const stop = async () => {
    stopping.abort();
    await consuming;
  };
  await use(transport, stop);
  await stop();
  await transport.close();
}

const send = (transport: Transport, ...bodies: string[]) =>
  transport.send("q", bodies.map((body, index) => ({ messageId: `m${index}`, body })));

test("no more handlers run at once than the concurrency, and every message is settled", async () => {
  let running = 0;
  let most = 0;
  const handled: string[] = [];
  await withQueue(
    async ({ body }) => {
      most = Math.max(most, ++running);
      await sleep(5);
      running -= 1;
      handled.push(body);
      return complete;
    },
    { concurrency: 3, prefetch: 4, receivers: 2 },
    async (transport) => {
      const bodies = Array.from({ length: 50 }, (_, index) => String(index));
      await send(transport, ...bodies);
      await expect.poll(() => handled.length).toBe(50);
      await expect.poll(() => transport.counts("q")).toEqual({ active: 0, deadLettered: 0 });
      expect(handled.sort()).toEqual(bodies.sort());
    },
  );
  expect(most).toBe(3);
});

test("a handler that outlives the lock keeps its message: the lock is renewed", async () => {
  let deliveries = 0;
  await withQueue(
    async () => {
      deliveries += 1;
      await sleep(1_200); // four locks long
      return complete;
    },
    { graceMs: 5_000 },
    async (transport) => {
      await send(transport, "long");
      await expect.poll(() => transport.counts("q"), { timeout: 5_000 }).toEqual({ active: 0, deadLettered: 0 });
    },
  );
  expect(deliveries).toBe(1);
});

test("while the database is away nothing is received, what is locked stays locked, and no delivery is burnt", async () => {
  let isAway = true;
  let calls = 0;
  const deliveryCounts: number[] = [];
  await withQueue(
    async (message) => {
      calls += 1;
      if (isAway) throw away();
      deliveryCounts.push(message.deliveryCount);
      return complete;
    },
    { concurrency: 1, probeDatabase: () => isAway ? Promise.reject(away()) : Promise.resolve() },
    async (transport) => {
      await send(transport, "first", "second", "third");
      await expect.poll(() => calls).toBe(1);
      await sleep(1_000); // three locks long
      expect(calls).toBe(1);
      isAway = false;
      await expect.poll(() => deliveryCounts, { timeout: 5_000 }).toEqual([1, 1, 1]);
    },
  );
});

test("a database that stays away is given up after a while: the message is abandoned", async () => {
  let isAway = true;
  const deliveryCounts: number[] = [];
  await withQueue(
    async ({ deliveryCount }) => {
      deliveryCounts.push(deliveryCount);
      if (isAway) throw away();
      return complete;
    },
    { concurrency: 1, abandonAfterMs: 100, probeDatabase: () => isAway ? Promise.reject(away()) : Promise.resolve() },
    async (transport) => {
      await send(transport, "once more");
      await sleep(400);
      isAway = false;
      await expect.poll(() => transport.counts("q"), { timeout: 5_000 }).toEqual({ active: 0, deadLettered: 0 });
    },
  );
  expect(deliveryCounts).toEqual([1, 2]);
});

test("once drained, nobody asks for a database that stays away, so the process can end", async () => {
  let asked = 0;
  const probeDatabase = () => {
    asked += 1;
    return Promise.reject(away());
  };
  await withQueue(() => Promise.reject(away()), { graceMs: 50, probeDatabase }, async (transport, stop) => {
    await send(transport, "never handled");
    await expect.poll(() => asked).toBeGreaterThan(0);
    await stop();
    const before = asked;
    await sleep(1_500); // the longest pause between two questions would have been 300 ms by now
    expect(asked).toBe(before);
  });
});

test("the grace begins with the stop, not with the end of the last receive", async () => {
  const memory = openMemoryTransport({ lockMs: 2_000 });
  let slow = false;
  const transport: Transport = {
    ...memory,
    receive: async (queue, options) => {
      const messages = await memory.receive(queue, options);
      if (slow) await sleep(1_500);
      return messages;
    },
  };
  const stopping = new AbortController();
  let abortedAfterMs = Infinity;
  const consuming = consume(transport, "q", async (_, { signal }) => {
    slow = true;
    const stoppedAt = await new Promise<number>((resolve) =>
      stopping.signal.addEventListener("abort", () => resolve(performance.now()))
    );
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    abortedAfterMs = performance.now() - stoppedAt;
    return complete;
  }, { concurrency: 2, receivers: 2, graceMs: 100, signal: stopping.signal, log, probeDatabase: () => Promise.resolve() });
  await send(transport, "long");
  await expect.poll(() => slow).toBe(true);
  stopping.abort();
  await consuming;
  await memory.close();
  expect(abortedAfterMs).toBeLessThan(1_000);
});

test("a PermanentError dead-letters with its code, anything else abandons", async () => {
  await withQueue(
    async ({ body, deliveryCount }) => {
      if (body === "bad") throw new PermanentError("invalid-message", "jobId: is missing");
      if (deliveryCount < 3) throw new TypeError("a bug");
      return complete;
    },
    {},
    async (transport) => {
      await send(transport, "bad", "unlucky");
      await expect.poll(() => transport.counts("q"), { timeout: 5_000 }).toEqual({ active: 0, deadLettered: 1 });
      const [dead] = await transport.receive("q", { max: 1, signal: AbortSignal.timeout(1_000), from: "dead-letters" });
      expect(dead?.deadLettered).toEqual({ reason: "invalid-message", description: "jobId: is missing" });
    },
  );
});

test("a megabyte is dead-lettered before anything parses it", async () => {
  let handled = 0;
  await withQueue(
    async () => {
      handled += 1;
      return complete;
    },
    {},
    async (transport) => {
      await send(transport, "x".repeat(1_048_576));
      await expect.poll(() => transport.counts("q")).toEqual({ active: 0, deadLettered: 1 });
    },
  );
  expect(handled).toBe(0);
});

test("a stop drains what is locked and takes no more", async () => {
  const handled: string[] = [];
  await withQueue(
    async ({ body }) => {
      await sleep(100);
      handled.push(body);
      return complete;
    },
    { concurrency: 1 },
    async (transport, stop) => {
      await send(transport, "one", "two");
      await sleep(30);
      await stop();
      expect(handled).toEqual(["one"]);
      expect((await transport.counts("q")).active).toBe(1);
    },
  );
});

test("a stop gives back at once what is locked and no handler has begun, while what runs goes on", async () => {
  const finish = Promise.withResolvers<void>();
  const handled: string[] = [];
  await withQueue(
    async ({ body }) => {
      handled.push(body);
      await finish.promise;
      return complete;
    },
    { concurrency: 1, prefetch: 2, graceMs: 5_000 },
    async (transport, stop) => {
      await send(transport, "runs", "waits", "waits too");
      await expect.poll(() => handled).toEqual(["runs"]);
      const stopped = stop();
      const again = await transport.receive("q", { max: 3, signal: AbortSignal.timeout(2_000) });
      expect(again.map(({ body }) => body)).toEqual(["waits", "waits too"]);
      expect((await transport.counts("q")).active).toBe(3); // the first is still locked
      finish.resolve();
      await stopped;
      expect((await transport.counts("q")).active).toBe(2);
      expect(handled).toEqual(["runs"]);
    },
  );
});

test("a handler that doesn't end within the grace is told to, and its message is abandoned", async () => {
  await withQueue(
    async (_message, { signal }) => {
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
      throw new Error("not done");
    },
    { concurrency: 1, graceMs: 50 },
    async (transport, stop) => {
      await send(transport, "endless");
      await sleep(30);
      await stop();
      const [again] = await transport.receive("q", { max: 1, signal: AbortSignal.timeout(2_000) });
      expect(again?.deliveryCount).toBe(2);
    },
  );
});

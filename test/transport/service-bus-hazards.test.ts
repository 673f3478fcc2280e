import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { describe, expect, test as base } from "vitest";
import {
  type ServiceBusBroker,
  type ServiceBusBrokerOptions,
  startServiceBusBroker,
} from "../../dev/service-bus-broker/start.ts";
import { TimeLimitError, withTimeLimit } from "../../shared/time-limit.ts";
import { consume } from "../../shared/transport/consume.ts";
import { openServiceBusTransport } from "../../shared/transport/service-bus.ts";
import { complete, type LockedMessage, type Transport } from "../../shared/transport/transport.ts";
import { startFreezingProxy } from "../support/freezing-proxy.ts";
import { openNaiveServiceBusTransport } from "./naive-service-bus.ts";

// Each hazard of the SDK (7.9.5) as a fact about our transport, and the same steps with the naive one, which must fail: a test that
// the naive one passes shows nothing. Every test has a broker of its own, as faults are a broker's.

interface Stage {
  readonly broker: ServiceBusBroker;
  readonly queue: string;
  readonly ours: Transport;
  readonly naive: Transport;
  /** Of neither: looks on. */
  readonly other: Transport;
  /** What ours logged. */
  readonly logged: string[];
}

async function withStage(
  play: (stage: Stage) => Promise<void>,
  { lockMs = 60_000, idle }: { lockMs?: number; idle?: ServiceBusBrokerOptions["idle"] } = {},
): Promise<void> {
  const broker = await startServiceBusBroker({ ...(idle && { idle }) });
  const logged: string[] = [];
  const log = pino({ level: "warn" }, { write: (line: string) => void logged.push(line) });
  const queue = `hazard-${randomUUID().slice(0, 8)}`;
  const ours = openServiceBusTransport(broker, { lockMs, log });
  const other = openServiceBusTransport(broker, { lockMs });
  const naive = openNaiveServiceBusTransport(broker.connectionString, { lockMs });
  try {
    await ours.provision([queue]);
    await play({ broker, queue, ours, naive, other, logged });
  } finally {
    broker.faults.halfOpen(false);
    await Promise.all([ours, other, naive].map((transport) => withTimeLimit(transport.close(), 2_000).catch(() => {})));
    await broker.stop();
  }
}

const test = base.concurrent;

describe("hazards of the SDK of Service Bus", () => {
  test("outcomes of one tick stay apart: what was abandoned next to a completed message is still there", async () => {
    await withStage(async ({ queue, ours, naive, other }) => {
      const left = async (transport: Transport) => {
        await transport.send(queue, [{ messageId: "a", body: "a" }, { messageId: "b", body: "b" }]);
        const [a, b] = await receiveAll(transport, queue, 2);
        await Promise.all([a?.complete(), b?.abandon()]);
        const { active } = await other.counts(queue);
        await other.purge(queue);
        return active;
      };
      expect(await left(ours)).toBe(1);
      expect(await left(naive)).toBe(0);
    });
  });

  test("dead letters of one tick keep a reason each, among 200 mixed settlements", async () => {
    await withStage(async ({ queue, ours, other }) => {
      const outcomes = Array.from({ length: 200 }, () => Math.floor(Math.random() * 3));
      await ours.send(queue, outcomes.map((outcome, n) => ({ messageId: `m${n}`, body: String(outcome) })));
      const messages = await receiveAll(ours, queue, 200);
      await Promise.all(messages.map((message) => {
        if (message.body === "0") return message.complete();
        return message.body === "1" ? message.abandon() : message.moveToDeadLetters("task-failed", message.messageId);
      }));
      const numberOf = (outcome: number) => outcomes.filter((value) => value === outcome).length;
      expect(await other.counts(queue)).toEqual({ active: numberOf(1), deadLettered: numberOf(2) });
      const dead = await receiveAll(other, queue, numberOf(2), "dead-letters");
      expect(dead.every(({ messageId, deadLettered }) => deadLettered?.description === messageId)).toBe(true);
    });
  });

  test("a message that is never settled stops no receiver, not even after 2,048 deliveries", async () => {
    await withStage(async ({ queue, ours, naive }) => {
      const handled = async (transport: Transport) => {
        for (let n = 0; n < 2_200; n += 550) {
          await ours.send(queue, Array.from({ length: 550 }, (_, m) => ({ messageId: `m${n + m}`, body: "" })));
        }
        const [first, ...others] = await receiveSome(transport, queue, 50);
        await Promise.all(others.map((message) => message.complete()));
        let count = 1 + others.length;
        for (let quiet = 0; count < 2_200 && quiet < 2;) {
          const messages = await transport.receive(queue, { max: 100, signal: new AbortController().signal });
          await Promise.all(messages.map((message) => message.complete()));
          count += messages.length;
          quiet = messages.length > 0 ? 0 : quiet + 1;
        }
        await first?.complete();
        return count;
      };
      expect(await handled(ours)).toBe(2_200);
      expect(await handled(naive)).toBe(2_048);
    });
  });

  test("what was received before a connection broke can be settled at once after it, though its link has a successor", async () => {
    await withStage(async ({ queue, broker, ours, naive, other }) => {
      const settleAfterDrop = async (transport: Transport) => {
        await other.send(queue, [{ messageId: "a", body: "a" }]);
        const [message] = await receiveSome(transport, queue, 1);
        broker.faults.dropConnections();
        await reopen(transport, queue);
        return message?.complete();
      };
      await expect(withTimeLimit(settleAfterDrop(ours), 8_000)).resolves.toBeUndefined();
      await expect(withTimeLimit(settleAfterDrop(naive), 8_000)).rejects.toBeInstanceOf(TimeLimitError);
    });
  });

  test("a link that was detached as idle under a long handler, and has a successor, holds up no settlement", async () => {
    await withStage(async ({ queue, ours, naive, other }) => {
      const settleAfterIdling = async (transport: Transport) => {
        await other.send(queue, [{ messageId: "a", body: "a" }]);
        const [message] = await receiveSome(transport, queue, 1);
        await sleep(2_500); // beyond the idle time
        await reopen(transport, queue);
        await withTimeLimit(Promise.resolve(message?.complete()), 2_000);
        await transport.send(queue, [{ messageId: "b", body: "first after idling" }]);
      };
      const [mine, control] = await Promise.allSettled([
        settleAfterIdling(ours),
        sleep(600).then(() => settleAfterIdling(naive)),
      ]);
      expect(mine).toMatchObject({ status: "fulfilled" });
      expect(control).toMatchObject({ status: "rejected", reason: expect.any(TimeLimitError) });
    }, { idle: { linkMs: 1_000 } });
  });

  test("a settlement whose reply got lost ends, and a message isn't lost by it", async () => {
    await withStage(async ({ queue, broker, ours, other }) => {
      await ours.send(queue, [{ messageId: "a", body: "a" }]);
      const [message] = await receiveSome(ours, queue, 1);
      broker.faults.loseSettlementReplies(1);
      await withTimeLimit(Promise.allSettled([message?.complete()]), 8_000);
      expect(await other.counts(queue)).toEqual({ active: 0, deadLettered: 0 });
    }, { lockMs: 5_000 });
  });

  test("a wrong key is refused soon, with what was tried and why", async () => {
    await withStage(async ({ queue, broker }) => {
      const connectionString = broker.connectionString.replace(/SharedAccessKey=[^;]+/, "SharedAccessKey=wrong");
      const ours = openServiceBusTransport({ connectionString });
      const naive = openNaiveServiceBusTransport(connectionString, {
        lockMs: 60_000,
        retryOptions: { maxRetries: 1, retryDelayInMs: 100 },
      });
      const refusalOf = async (transport: Transport): Promise<unknown> =>
        await withTimeLimit(transport.send(queue, [{ messageId: "a", body: "a" }]), 4_000).catch((error) => error);
      const refusal = await refusalOf(ours);
      expect(refusal).toMatchObject({ code: "UnauthorizedAccess" });
      expect(String(refusal)).toMatch(new RegExp(`${queue}.*InvalidSignature`));
      const control = await refusalOf(naive);
      expect(control).toBeInstanceOf(AggregateError);
      expect(control).toMatchObject({ message: "" });
      expect(control).not.toHaveProperty("code");
      await Promise.all([ours.close(), naive.close()]);
    });
  });

  test("of two messages with the same id, the second stays locked when the first is done", async () => {
    await withStage(async ({ ours, naive, other }) => {
      const runsOf = async (transport: Transport, queue: string) => {
        await other.provision([queue]);
        await other.send(queue, [{ messageId: "same", body: "1" }, { messageId: "same", body: "2" }]);
        const stopping = new AbortController();
        let runs = 0;
        const consuming = consume(transport, queue, async ({ body }) => {
          runs += 1;
          await sleep(body === "1" ? 300 : 4_500);
          return complete;
        }, {
          concurrency: 4,
          receivers: 1,
          graceMs: 5_000,
          signal: stopping.signal,
          log: pino({ level: "silent" }),
          probeDatabase: () => Promise.resolve(),
        });
        await sleep(4_500);
        stopping.abort();
        await consuming;
        return runs;
      };
      const [mine, control] = await Promise.all([runsOf(ours, "same-ours"), runsOf(naive, "same-naive")]);
      expect(mine).toBe(2);
      expect(control).toBeGreaterThan(2);
    }, { lockMs: 1_200 });
  });

  test("closing ends soon, whatever the other side does", async () => {
    await withStage(async ({ queue, broker, ours, naive }) => {
      for (const transport of [ours, naive]) {
        await transport.send(queue, [{ messageId: "a", body: "a" }]);
        await receiveSome(transport, queue, 1);
      }
      broker.faults.halfOpen(true);
      await expect(withTimeLimit(ours.close(), 3_000)).resolves.toBeUndefined();
      await expect(withTimeLimit(naive.close(), 3_000)).rejects.toBeInstanceOf(TimeLimitError);
    });
  });

  test("a receive that waits when the connection breaks says so, and the next one works", async () => {
    await withStage(async ({ queue, broker, ours, naive, other }) => {
      const outcomeAtDrop = async (transport: Transport) => {
        await reopen(transport, queue);
        const waiting = transport.receive(queue, { max: 1, signal: AbortSignal.timeout(10_000) }).catch((error) => error);
        await sleep(100);
        broker.faults.dropConnections();
        const outcome: unknown = await waiting;
        await other.send(queue, [{ messageId: "a", body: "a" }]);
        for (const message of await receiveSome(transport, queue, 1)) await message.complete();
        return outcome;
      };
      expect(String(await outcomeAtDrop(ours))).toMatch(`receiving from ${queue}`);
      expect(String(await outcomeAtDrop(naive))).not.toMatch(queue);
    });
  });

  test("a receiver that fell silent is replaced with its client, which the log tells", async () => {
    await withStage(async ({ queue, broker, other, logged }) => {
      const proxy = await startFreezingProxy(broker.port);
      const connectionString = broker.connectionString.replace(`localhost:${broker.port}`, `localhost:${proxy.port}`);
      const log = pino({ level: "warn" }, { write: (line: string) => void logged.push(line) });
      const ours = openServiceBusTransport({ connectionString }, { log });
      const naive = openNaiveServiceBusTransport(connectionString, { lockMs: 60_000 });
      for (const transport of [ours, naive]) await reopen(transport, queue);
      proxy.freeze();
      const receiveAfter = async (transport: Transport, messageId: string) => {
        const [message] = await receiveSome(transport, queue, 1, "queue", 20_000);
        await message?.complete();
        return messageId;
      };
      const control = withTimeLimit(receiveAfter(naive, "b"), 15_000).catch((error) => error);
      await other.send(queue, [{ messageId: "a", body: "a" }]);
      await receiveAfter(ours, "a");
      expect(logged.join()).toContain("Service Bus is silent");
      await other.send(queue, [{ messageId: "b", body: "b" }]);
      expect(await control).toBeInstanceOf(TimeLimitError);
      await Promise.all([ours, naive].map((transport) => withTimeLimit(transport.close(), 1_000).catch(() => {})));
      await proxy.stop();
    });
  });

  test("a busy namespace is given two seconds, then the batch is sent", async () => {
    await withStage(async ({ queue, broker, ours, naive, other }) => {
      broker.faults.throttle(true);
      const startedAt = performance.now();
      const sending = ours.send(queue, [{ messageId: "a", body: "a" }]);
      const control = withTimeLimit(naive.send(queue, [{ messageId: "b", body: "b" }]), 6_000).catch((error) => error);
      await sleep(500);
      broker.faults.throttle(false);
      await sending;
      expect(performance.now() - startedAt).toBeGreaterThan(2_000);
      expect(performance.now() - startedAt).toBeLessThan(6_000);
      expect(await other.counts(queue)).toMatchObject({ active: 1 });
      expect(await control).toBeInstanceOf(TimeLimitError); // half a minute, by default
    });
  });
});

/** A receive that finds nothing: the SDK opens a link that isn't open. */
async function reopen(transport: Transport, queue: string): Promise<void> {
  const giveUpAt = Date.now() + 10_000;
  while (Date.now() < giveUpAt) {
    try {
      const messages = await transport.receive(queue, { max: 1, signal: AbortSignal.timeout(1_200) });
      for (const message of messages) await message.abandon();
      return;
    } catch (error) {
      if (error instanceof Error && error.name === "AbortError") return;
      await sleep(50); // the connection comes back
    }
  }
}

async function receiveSome(
  transport: Transport,
  queue: string,
  max: number,
  from: "queue" | "dead-letters" = "queue",
  patienceMs = 15_000,
): Promise<readonly LockedMessage[]> {
  const giveUpAt = Date.now() + patienceMs;
  const { signal } = new AbortController();
  while (Date.now() < giveUpAt) {
    const messages = await transport.receive(queue, { max, signal, from }).catch(() => sleep(50).then(() => []));
    if (messages.length > 0) return messages;
  }
  throw new Error(`nothing came from ${queue}`);
}

async function receiveAll(transport: Transport, queue: string, count: number, from: "queue" | "dead-letters" = "queue") {
  const received: LockedMessage[] = [];
  while (received.length < count) received.push(...await receiveSome(transport, queue, count - received.length, from));
  return received;
}

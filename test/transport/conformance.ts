import { randomUUID } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PermanentError } from "../../shared/errors.ts";
import { type LockedMessage, LockLostError, type OutgoingMessage, type Transport } from "../../shared/transport/transport.ts";

export interface Broker {
  /** A transport of its own, as another process would have. */
  open(options: { readonly lockMs: number; readonly maxDeliveryCount?: number }): Transport;
  /** Puts a text into a queue as somebody would who doesn't know our format. */
  readonly putByHand?: (queue: string, text: string) => Promise<void>;
  /** Stops the broker for a moment and starts it again, nothing lost. */
  readonly restart?: () => Promise<void>;
  /** A transport to a port where nobody listens. */
  readonly openUnreachable?: () => Transport;
  stop(): Promise<void>;
}

/** What every transport must keep, against a broker of its own. */
export function describeTransport(
  name: string,
  start: () => Promise<Broker>,
  traits: { remote: boolean },
): void {
  const lockMs = 2_000;
  let broker: Broker;
  const opened: Transport[] = [];

  const open = (options: { lockMs?: number; maxDeliveryCount?: number } = {}) => {
    const transport = broker.open({ lockMs, ...options });
    opened.push(transport);
    return transport;
  };

  /** A transport, and a queue that nobody else uses. */
  const openQueue = async (options: { lockMs?: number; maxDeliveryCount?: number } = {}) => {
    const transport = open(options);
    const queue = `test-${randomUUID().slice(0, 18)}`;
    await transport.provision([queue]);
    return { transport, queue };
  };

  beforeAll(async () => {
    broker = await start();
  });

  afterAll(async () => {
    await Promise.allSettled(opened.map((transport) => transport.close()));
    await broker.stop();
  });

  describe.concurrent(name, () => {
    test("what is sent is received, with its id, its body and delivery count 1, and gone once completed", async () => {
      const { transport, queue } = await openQueue();
      const body = JSON.stringify({ text: 'quotes " and \\ and\nlines' });
      await transport.send(queue, [{ messageId: "job-s1-r1-b0:1", body }]);
      const message = await receiveOne(transport, queue);
      expect(message).toMatchObject({ messageId: "job-s1-r1-b0:1", body, deliveryCount: 1 });
      expect(message.deadLettered).toBeUndefined();
      await message.complete();
      await eventually(async () => expect(await transport.counts(queue)).toEqual({ active: 0, deadLettered: 0 }));
      expect(await receiveNothing(transport, queue, lockMs * 1.5)).toEqual([]);
    });

    test("a message whose lock expired is delivered again, to anyone, and counts one more", async () => {
      const { transport, queue } = await openQueue({ lockMs: 1_000 });
      await transport.send(queue, messagesOf(1));
      const first = await receiveOne(transport, queue);
      const second = await receiveOne(open(), queue);
      expect(second).toMatchObject({ messageId: first.messageId, body: first.body, deliveryCount: 2 });
      await expect(first.renewLock()).rejects.toBeInstanceOf(LockLostError);
      await expect(first.complete()).rejects.toBeInstanceOf(LockLostError);
      await expect(first.abandon()).rejects.toBeInstanceOf(LockLostError);
      await expect(first.moveToDeadLetters("late", "by a receiver that lost it")).rejects.toBeInstanceOf(LockLostError);
      await second.complete();
      expect((await eventualCounts(transport, queue, 0)).deadLettered).toBe(0);
    });

    test("a renewed lock holds beyond its time, and the message can be completed then", async () => {
      const { transport, queue } = await openQueue({ lockMs: 1_000 });
      const other = open();
      await transport.send(queue, messagesOf(1));
      const message = await receiveOne(transport, queue);
      const renewed = new AbortController();
      const renewing = (async () => {
        for (let n = 0; n < 8; n++) {
          await setTimeout(300);
          await message.renewLock();
        }
        renewed.abort();
      })();
      expect(await receiveUntil(other, queue, renewed.signal)).toEqual([]);
      await renewing;
      await message.complete();
      await eventualCounts(transport, queue, 0);
    });

    test("calls of one message at the same time don't get into each other's way", async () => {
      const { transport, queue } = await openQueue();
      await transport.send(queue, messagesOf(1));
      const message = await receiveOne(transport, queue);
      await Promise.all([message.renewLock(), message.renewLock(), message.renewLock()]);
      const renewal = message.renewLock();
      await message.complete();
      await renewal;
      await eventualCounts(transport, queue, 0);
    });

    test("an abandoned message is available at once, and counts one more each time", async () => {
      const { transport, queue } = await openQueue({ lockMs: 60_000 });
      await transport.send(queue, messagesOf(1));
      for (let deliveryCount = 1; deliveryCount <= 5; deliveryCount++) {
        const message = await receiveOne(transport, queue);
        expect(message.deliveryCount).toBe(deliveryCount);
        await message.abandon();
        await expect(message.renewLock()).rejects.toBeInstanceOf(LockLostError);
      }
      const other = await receiveOne(open(), queue);
      expect(other.deliveryCount).toBe(6);
      await other.complete();
    });

    test("a message delivered more often than the max goes to the dead letters by itself", async () => {
      const { transport, queue } = await openQueue({ maxDeliveryCount: 2 });
      await transport.send(queue, [{ messageId: "poison", body: "kills its receiver" }]);
      for (let n = 0; n < 2; n++) await (await receiveOne(transport, queue)).abandon();
      expect(await receiveNothing(transport, queue, 500)).toEqual([]);
      const dead = await receiveOne(transport, queue, "dead-letters");
      expect(dead).toMatchObject({
        messageId: "poison",
        body: "kills its receiver",
        deadLettered: { reason: "max-delivery-count" },
      });
      expect(dead.deadLettered?.description).toContain("3");
      await dead.complete();
    });

    test("a dead letter has its reason, is read from the dead letters only, and is gone once completed there", async () => {
      const { transport, queue } = await openQueue();
      const body = "\u{1f9ca} nicht JSON";
      await transport.send(queue, [{ messageId: "damaged", body }]);
      await (await receiveOne(transport, queue)).moveToDeadLetters("invalid-message", 'not JSON: "\u{1f9ca}"\nline 2');
      await eventually(async () => expect(await transport.counts(queue)).toEqual({ active: 0, deadLettered: 1 }));
      const dead = await receiveOne(open(), queue, "dead-letters");
      const deadLettered = { reason: "invalid-message", description: 'not JSON: "\u{1f9ca}"\nline 2' };
      expect(dead).toMatchObject({ messageId: "damaged", body, deliveryCount: 1, deadLettered });
      await expect(dead.moveToDeadLetters("again", "")).rejects.toThrow("already");
      await dead.abandon();
      const again = await receiveOne(transport, queue, "dead-letters");
      expect(again).toMatchObject({ messageId: "damaged", body, deliveryCount: 2, deadLettered });
      await again.complete();
      await eventually(async () => expect(await transport.counts(queue)).toEqual({ active: 0, deadLettered: 0 }));
    });

    test("the largest body can be dead-lettered, with as much of a long description as fits", async () => {
      const { transport, queue } = await openQueue();
      const body = '"'.repeat(transport.maxBodyBytes);
      await transport.send(queue, [{ messageId: "x".repeat(150), body }]);
      await (await receiveOne(transport, queue)).moveToDeadLetters("task-failed", '\u{1f4a5}"'.repeat(1_000));
      const dead = await receiveOne(transport, queue, "dead-letters");
      expect(dead.body === body).toBe(true);
      expect(dead.deadLettered?.reason).toBe("task-failed");
      expect(dead.deadLettered?.description).toMatch(/^\u{1f4a5}"/u);
      await dead.complete();
    });

    test("a batch of 100 arrives whole, each message once while its lock holds", async () => {
      const { transport, queue } = await openQueue({ lockMs: 60_000 });
      const sent = messagesOf(100);
      await transport.send(queue, sent);
      expect(idsOf(await receiveAll([transport], queue, 100))).toEqual(idsOf(sent));
    });

    test("a batch of mixed sizes arrives whole", async () => {
      const { transport, queue } = await openQueue({ lockMs: 60_000 });
      const sizes = [0, 1, 100, 5_000, transport.maxBodyBytes - 1, transport.maxBodyBytes];
      const sent = sizes.map((size) => ({ messageId: `size-${size}`, body: "ä".repeat(size / 2) + "a".repeat(size % 2) }));
      await transport.send(queue, sent);
      const received = await receiveAll([transport], queue, sent.length);
      expect(received.toSorted(byId).map(({ messageId, body }) => ({ messageId, body }))).toEqual(sent.toSorted(byId));
    });

    test("an empty batch is nothing", async () => {
      const { transport, queue } = await openQueue();
      await transport.send(queue, []);
      expect(await transport.counts(queue)).toEqual({ active: 0, deadLettered: 0 });
    });

    test("any text is a body", async () => {
      const { transport, queue } = await openQueue({ lockMs: 60_000 });
      const bodies = [
        "",
        " ",
        "\r\n",
        "日本語 ✓ \u{1f600} é e\u0301",
        "<xml>&amp;</xml>",
        "\u0000\u0001\ufeff",
        '{"messageId":"a","body":"b"}',
        "AAAA",
      ];
      await transport.send(queue, bodies.map((body, n) => ({ messageId: `text-${n}`, body })));
      const received = await receiveAll([transport], queue, bodies.length);
      expect(received.toSorted(byId).map(({ body }) => body)).toEqual(bodies);
    });

    test("a body that is too large is refused before anything is sent", async () => {
      const { transport, queue } = await openQueue();
      const tooLarge = { messageId: "large", body: "ä".repeat(transport.maxBodyBytes / 2) + "a" };
      const refusal = await transport.send(queue, [...messagesOf(3), tooLarge]).catch((error) => error);
      expect(refusal).toBeInstanceOf(PermanentError);
      expect(refusal).toMatchObject({ code: "invalid-message" });
      expect(refusal.message).toContain("large");
      expect(await transport.counts(queue)).toEqual({ active: 0, deadLettered: 0 });
    });

    test("an id can be sent again once its message is settled", async () => {
      const { transport, queue } = await openQueue();
      for (const body of ["first", "second", "third"]) {
        await transport.send(queue, [{ messageId: "same", body }]);
        const message = await receiveOne(transport, queue);
        expect(message).toMatchObject({ messageId: "same", body, deliveryCount: 1 });
        if (body === "third") await message.complete();
        else await message.moveToDeadLetters("task-failed", body);
      }
      const dead = await receiveAll([transport], queue, 2, "dead-letters");
      expect(dead.map(({ body }) => body).sort()).toEqual(["first", "second"]);
    });

    test("many receivers of several processes get each message once while locks hold", async () => {
      const { transport, queue } = await openQueue({ lockMs: 60_000 });
      const others = [open({ lockMs: 60_000 }), open({ lockMs: 60_000 })];
      const sent = messagesOf(300);
      for (let n = 0; n < sent.length; n += 100) await transport.send(queue, sent.slice(n, n + 100));
      const receivers = [transport, ...others].flatMap((receiver) => [receiver, receiver, receiver]);
      expect(idsOf(await receiveAll(receivers, queue, sent.length))).toEqual(idsOf(sent));
    });

    test("no more than `max` messages are locked", async () => {
      const { transport, queue } = await openQueue({ lockMs: 60_000 });
      await transport.send(queue, messagesOf(10));
      expect(await receiveSome(transport, queue, 3)).toHaveLength(3);
      expect(await receiveAll([open()], queue, 7)).toHaveLength(7);
    });

    test("a message has one identity at every delivery, as a dead letter too, and no other has it", async () => {
      const { transport, queue } = await openQueue();
      await transport.send(queue, messagesOf(2));
      const [one, two] = await receiveAll([transport], queue, 2);
      expect(one?.identity).toBeTruthy();
      expect(two?.identity).not.toBe(one?.identity);
      await Promise.all([one?.abandon(), two?.complete()]);
      const again = await receiveOne(transport, queue);
      expect(again.identity).toBe(one?.identity);
      await again.moveToDeadLetters("task-failed", "");
      const dead = await receiveOne(transport, queue, "dead-letters");
      await dead.abandon();
      const deadAgain = await receiveOne(transport, queue, "dead-letters");
      expect(deadAgain.identity).toBe(dead.identity);
      await transport.send(queue, [{ messageId: again.messageId, body: "another under the same id" }]);
      expect((await receiveOne(transport, queue)).identity).not.toBe(one?.identity);
    });

    test("a receive that waits gets what is sent meanwhile", async () => {
      const { transport, queue } = await openQueue();
      const waiting = receiveOne(transport, queue);
      await setTimeout(300);
      await open().send(queue, messagesOf(1));
      await (await waiting).complete();
    });

    test("an aborted receive ends at once; what it locked is returned, so nothing waits for a lock to expire", async () => {
      const { transport, queue } = await openQueue({ lockMs: 60_000 });
      const waiting = new AbortController();
      const receive = transport.receive(queue, { max: 10, signal: waiting.signal });
      await setTimeout(200);
      const abortedAt = performance.now();
      waiting.abort();
      expect(await receive).toEqual([]);
      expect(performance.now() - abortedAt).toBeLessThan(500);
      expect(await transport.receive(queue, { max: 10, signal: AbortSignal.abort() })).toEqual([]);

      const received: LockedMessage[] = [];
      for (let round = 0; round < 20; round++) {
        const abort = new AbortController();
        const receives = [0, 1].map(() => transport.receive(queue, { max: 10, signal: abort.signal }));
        const send = transport.send(queue, messagesOf(5));
        await setTimeout(Math.random() * 12);
        abort.abort();
        received.push(...(await Promise.all(receives)).flat());
        await send;
      }
      received.push(...await receiveAll([transport], queue, 100 - received.length));
      expect(new Set(idsOf(received)).size).toBe(100);
    });

    test("closing ends the receives that wait, and loses nothing", async () => {
      const { transport, queue } = await openQueue({ lockMs: 1_000 });
      const { signal } = new AbortController();
      const receives = Array.from({ length: 4 }, () => transport.receive(queue, { max: 10, signal }).catch(() => []));
      await setTimeout(200);
      const sender = open();
      await sender.send(queue, messagesOf(20));
      const closedAt = performance.now();
      await transport.close();
      const locked = (await Promise.all(receives)).flat();
      expect(performance.now() - closedAt).toBeLessThan(1_500);
      await expect(transport.receive(queue, { max: 1, signal })).rejects.toThrow("closed");
      const left = await receiveAll([open()], queue, 20); // the locks of the closed one expire
      expect(new Set(idsOf(left)).size).toBe(20);
      expect(locked.every(({ messageId }) => idsOf(left).includes(messageId))).toBe(true);
    });

    test("counts tell what waits and what is locked; purging leaves nothing", async () => {
      const { transport, queue } = await openQueue({ lockMs: 60_000 });
      await transport.send(queue, messagesOf(6));
      const [locked, dead] = await receiveAll([transport], queue, 2, "queue", 2);
      expect(locked).toBeDefined();
      await dead?.moveToDeadLetters("task-failed", "");
      await eventually(async () => expect(await transport.counts(queue)).toEqual({ active: 5, deadLettered: 1 }));
      await transport.purge(queue);
      await eventually(async () => expect(await transport.counts(queue)).toEqual({ active: 0, deadLettered: 0 }));
      expect(await receiveNothing(transport, queue, 300)).toEqual([]);
      await transport.send(queue, messagesOf(1));
      await (await receiveOne(transport, queue)).complete();
    });

    test("provisioning twice, and by several processes at once, is harmless", async () => {
      const { queue } = await openQueue();
      await Promise.all(Array.from({ length: 5 }, () => open().provision([queue, `${queue}-2`])));
    });

    if (traits.remote) {
      test("what somebody put into the queue by hand is delivered as it is, and can be dead-lettered", async () => {
        const { transport, queue } = await openQueue({ lockMs: 60_000 });
        const texts = [
          "not base64, not JSON: <&> ☃",
          '{"jobId":1}',
          "null",
          "42",
          '"text"',
          "AAAA",
          "[]",
          "deadbeef",
          '{"messageId":7}',
        ];
        for (const text of texts) await broker.putByHand?.(queue, text);
        const received = await receiveAll([transport], queue, texts.length);
        expect(received.map(({ body }) => body).sort()).toEqual(texts.toSorted());
        expect(received.every(({ messageId, deliveryCount }) => messageId.length > 0 && deliveryCount === 1)).toBe(true);
        expect(new Set(idsOf(received)).size).toBe(texts.length);
        await Promise.all(received.map((message) => message.moveToDeadLetters("invalid-message", "by hand")));
        const dead = await receiveAll([transport], queue, texts.length, "dead-letters");
        expect(dead.map(({ body }) => body).sort()).toEqual(texts.toSorted());
        expect(idsOf(dead)).toEqual(idsOf(received));
        await Promise.all(dead.map((message) => message.complete()));
        await eventually(async () => expect(await transport.counts(queue)).toEqual({ active: 0, deadLettered: 0 }));
      });
    }
  });

  if (traits.remote) {
    describe(`${name}, away for a while`, () => {
      test("a restart amid traffic loses nothing, and all goes on by itself", async () => {
        const { transport, queue } = await openQueue();
        const sent = messagesOf(400);
        const seen = new Set<string>();
        const drained = new AbortController();
        const receive = async (receiver: Transport) => {
          while (!drained.signal.aborted) {
            const messages = await receiver.receive(queue, { max: 16, signal: drained.signal })
              .catch(() => setTimeout(20).then(() => []));
            for (const { messageId } of messages) seen.add(messageId);
            await Promise.allSettled(messages.map((message) => message.complete()));
          }
        };
        const receiving = [transport, transport, open(), open()].map(receive);
        for (let n = 0; n < sent.length; n += 20) {
          const sending = eventually(() => transport.send(queue, sent.slice(n, n + 20)));
          if (n === 200) await broker.restart?.();
          await sending;
        }
        await eventually(async () => expect(seen.size).toBe(sent.length));
        await eventualCounts(transport, queue, 0);
        drained.abort();
        await Promise.all(receiving);
      });

      test("calls reject soon while the broker can't be reached", async () => {
        const transport = broker.openUnreachable?.();
        if (!transport) throw new Error("there is no unreachable broker");
        opened.push(transport);
        const startedAt = performance.now();
        const { signal } = new AbortController();
        await expect(transport.receive("queue", { max: 1, signal })).rejects.toThrow();
        await expect(transport.send("queue", messagesOf(1))).rejects.toThrow();
        await expect(transport.counts("queue")).rejects.toThrow();
        expect(performance.now() - startedAt).toBeLessThan(10_000);
      });

      test("works on after the broker was restarted, with what it held", async () => {
        const { transport, queue } = await openQueue({ lockMs: 60_000 });
        const sent = messagesOf(5);
        await transport.send(queue, sent);
        const held = await receiveOne(transport, queue);
        const idle = `${queue}-idle`;
        await transport.provision([idle]);
        const waiting = receiveSome(transport, idle, 1);
        waiting.catch(() => {}); // awaited below
        await broker.restart?.();
        await eventually(() => held.renewLock());
        await held.complete();
        expect(idsOf(await receiveAll([transport], queue, 4))).toEqual(idsOf(sent).filter((id) => id !== held.messageId));
        await eventually(() => transport.send(idle, messagesOf(1)));
        const woken = (await waiting.catch(() => []))[0] ?? await receiveOne(transport, idle);
        await woken.complete();
      });
    });
  }
}

const patienceMs = 20_000;

function messagesOf(count: number): readonly OutgoingMessage[] {
  return Array.from({ length: count }, (_, n) => ({ messageId: randomUUID(), body: JSON.stringify({ version: 1, n }) }));
}

function idsOf(messages: readonly { readonly messageId: string }[]): readonly string[] {
  return messages.map(({ messageId }) => messageId).sort();
}

function byId(a: { readonly messageId: string }, b: { readonly messageId: string }): number {
  return a.messageId < b.messageId ? -1 : 1;
}

type From = "queue" | "dead-letters";

async function receiveSome(
  transport: Transport,
  queue: string,
  max: number,
  from: From = "queue",
): Promise<readonly LockedMessage[]> {
  const signal = AbortSignal.timeout(patienceMs);
  while (!signal.aborted) {
    const messages = await transport.receive(queue, { max, signal, from });
    if (messages.length > 0) return messages;
  }
  throw new Error(`nothing came from ${queue} in ${patienceMs} ms`);
}

async function receiveOne(transport: Transport, queue: string, from: From = "queue"): Promise<LockedMessage> {
  const [message] = await receiveSome(transport, queue, 1, from);
  if (!message) throw new Error(`nothing came from ${queue}`);
  return message;
}

/** As many messages as asked for, by all receivers at once. A broker that was just restarted may fail a few times. */
async function receiveAll(
  receivers: readonly Transport[],
  queue: string,
  count: number,
  from: From = "queue",
  max = 32,
): Promise<readonly LockedMessage[]> {
  const received: LockedMessage[] = [];
  const done = new AbortController();
  const signal = AbortSignal.any([done.signal, AbortSignal.timeout(patienceMs)]);
  await Promise.all(receivers.map(async (receiver) => {
    while (!signal.aborted && received.length < count) {
      received.push(...await receiver.receive(queue, { max, signal, from }).catch(() => []));
      if (received.length >= count) done.abort();
    }
  }));
  return received;
}

async function receiveUntil(transport: Transport, queue: string, signal: AbortSignal): Promise<readonly LockedMessage[]> {
  while (!signal.aborted) {
    const messages = await transport.receive(queue, { max: 10, signal });
    if (messages.length > 0) return messages;
  }
  return [];
}

async function receiveNothing(transport: Transport, queue: string, ms: number): Promise<readonly LockedMessage[]> {
  return await receiveUntil(transport, queue, AbortSignal.timeout(ms));
}

async function eventually<Result>(attempt: () => Promise<Result>): Promise<Result> {
  const deadline = Date.now() + patienceMs;
  while (true) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await setTimeout(50);
    }
  }
}

async function eventualCounts(transport: Transport, queue: string, active: number) {
  return await eventually(async () => {
    const counts = await transport.counts(queue);
    expect(counts.active).toBe(active);
    return counts;
  });
}

import { expect, test } from "vitest";
import { createManualClock } from "../../dev/service-bus-broker/manual-clock.ts";
import { openBroker } from "./test-namespace.ts";

test("2.12: a sender is detached after ten idle minutes, a receiver that waits for messages isn't; both work on", async () => {
  const clock = createManualClock();
  const own = await openBroker({ clock, queues: { q: {} } });
  try {
    const client = own.client({ retryOptions: { maxRetries: 2, retryDelayInMs: 10, timeoutInMs: 1_000 } });
    const sender = client.createSender("q");
    const bodies: unknown[] = [];
    const errors: Error[] = [];
    client.createReceiver("q").subscribe({
      processMessage: async ({ body }) => void bodies.push(body),
      processError: async ({ error }) => void errors.push(error),
    });
    await sender.sendMessages({ body: 1 });
    await expect.poll(() => bodies).toEqual([1]);
    // It gives credit again before it settles: until then it doesn't wait for messages, and counts as idle.
    await expect.poll(async () => (await own.admin.getQueueRuntimeProperties("q")).totalMessageCount).toBe(0);
    clock.advance(599_000);
    clock.advance(1_000);
    expect(own.broker.faults.detachLinks()).toBe(1); // only the receiver's link was left to detach
    await sender.sendMessages({ body: 2 });
    await expect.poll(() => bodies, { timeout: 10_000 }).toContain(2);
    expect(errors.map(({ message }) => message)).toEqual([expect.stringContaining("Code: Moved.")]);
  } finally {
    await own.stop();
  }
});

test("2.12: a connection without links is closed after five minutes, and its client opens another", async () => {
  const clock = createManualClock();
  const own = await openBroker({ clock, queues: { q: {} } });
  try {
    const client = own.client();
    const first = client.createSender("q");
    await first.sendMessages({ body: 1 });
    await first.close();
    clock.advance(1_000); // the link is gone by now or soon: no more than this is exact
    await expect.poll(() => {
      clock.advance(60_000);
      return own.broker.connectionCount();
    }).toBe(0);
    await client.createSender("q").sendMessages({ body: 2 });
    expect(own.broker.connectionCount()).toBe(1);
  } finally {
    await own.stop();
  }
});

test("2.4: a link whose token has expired is detached, and the SDK comes back with a new one", async () => {
  const clock = createManualClock();
  const own = await openBroker({ clock, idle: { linkMs: Infinity, connectionMs: Infinity }, queues: { q: {} } });
  try {
    const { promise, resolve } = Promise.withResolvers<Error>();
    own.client().createReceiver("q").subscribe({
      processMessage: async () => {},
      processError: async ({ error }) => resolve(error),
    });
    await own.client().createSender("q").sendMessages({ body: 1 });
    await expect.poll(async () => (await own.admin.getQueueRuntimeProperties("q")).totalMessageCount).toBe(0);
    clock.advance(3_700_000);
    expect(await promise).toMatchObject({ code: "UnauthorizedAccess", message: expect.stringContaining("Code: RenewToken.") });
  } finally {
    await own.stop();
  }
});

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { ExponentialBackoff, handleWhen, retry } from "cockatiel";
import type { Logger } from "pino";
import { salvageIds } from "../contracts/salvage.ts";
import { PermanentError } from "../errors.ts";
import { createSlots } from "../slots.ts";
import { isDatabaseAway } from "../store/database.ts";
import { abandon, type LockedMessage, LockLostError, type Settlement, type Transport } from "./transport.ts";

/** What a handler may see of the delivery it works on. */
export interface Delivery {
  /** Aborted when the grace of a stopping process is over: finish at once, or release. */
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** Ids that every later line about this delivery carries, once they are known. */
  identify(ids: Readonly<Record<string, unknown>>): void;
  /** Notes that a phase of the message has ended (parsed, claimed, ran, recorded); logged with its elapsed time. */
  phase(name: string): void;
}

/**
 * Handles one message and says how it ends. What it throws decides too: PermanentError dead-letters, a database that is away
 * keeps the message locked and runs the handler again, anything else abandons. So it must be safe to run twice.
 */
export type MessageHandler = (message: LockedMessage, delivery: Delivery) => Promise<Settlement>;

export interface ConsumeOptions {
  /** Messages handled at once. */
  readonly concurrency: number;
  /** Messages locked beyond these, so that no handler waits for a receive. Default 0. */
  readonly prefetch?: number;
  /** Default: the queue itself. */
  readonly from?: "queue" | "dead-letters";
  /** Receives that wait at once. Default 1. */
  readonly receivers?: number;
  /** How long handlers may go on once `signal` was aborted. */
  readonly graceMs: number;
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** Resolves if the database answers. */
  readonly probeDatabase: () => Promise<unknown>;
  /** How long messages stay locked for a database that is away, before they are abandoned. Default one minute. */
  readonly abandonAfterMs?: number;
}

/** A message this large breaks every contract of ours; it is dead-lettered unparsed. */
const maxBodyCharacters = 1_000_000;

/** Settling is worth a few tries: one that fails costs a redelivery. */
const settling = retry(handleWhen((error) => !(error instanceof LockLostError)), {
  maxAttempts: 3,
  backoff: new ExponentialBackoff({ initialDelay: 50, maxDelay: 1000 }),
});

/**
 * Receives from a queue until `signal` is aborted, then drains: takes no more, gives back at once what no handler has begun, and
 * settles what they have. The only place that renews, settles and drains; what a message's end means for the rows is the handler's.
 */
export async function consume(
  transport: Transport,
  queue: string,
  handle: MessageHandler,
  options: ConsumeOptions,
): Promise<void> {
  const { concurrency, prefetch = 0, receivers = 1, signal, graceMs, from = "queue" } = options;
  const log = options.log.child({ transport: transport.name, queue, ...(from === "dead-letters" && { from }) });
  const deadline = new AbortController();
  const drained = new AbortController();
  const database = createGate(options.probeDatabase, log, drained.signal);
  const handling = createSlots(concurrency);
  const locked = createSlots(concurrency + prefetch);
  const deliveries = new Set<Promise<void>>();

  async function receiveInLoop(): Promise<void> {
    const share = Math.max(1, Math.ceil((concurrency + prefetch) / receivers));
    for (let failures = 0; !signal.aborted;) {
      const room = await locked.take(Math.min(share, 32), signal);
      await database.whenOpen(signal);
      if (signal.aborted) {
        locked.give(room);
        break;
      }
      let messages: readonly LockedMessage[] = [];
      try {
        messages = await transport.receive(queue, { max: room, signal, from });
        if (failures > 0) log.info({ failures }, "receiving again");
        failures = 0;
      } catch (error) {
        locked.give(room);
        if (signal.aborted) break;
        if (failures++ === 0) log.warn({ err: error }, "can't receive");
        await sleep(jitter(Math.min(5_000, 100 * 2 ** failures)), undefined, { signal }).catch(() => {});
        continue;
      }
      locked.give(room - messages.length);
      for (const message of messages) {
        const delivery = deliver(message).finally(() => {
          locked.give(1);
          deliveries.delete(delivery);
        });
        deliveries.add(delivery);
      }
    }
  }

  async function deliver(message: LockedMessage): Promise<void> {
    const startedAt = performance.now();
    const phases: Record<string, number> = {};
    let messageLog = log.child({
      messageId: message.messageId,
      deliveryCount: message.deliveryCount,
      size: message.body.length,
      hash: createHash("sha256").update(message.body).digest("hex").slice(0, 16),
    });
    const delivery: Delivery = {
      signal: deadline.signal,
      get log() {
        return messageLog;
      },
      identify: (ids) => void (messageLog = messageLog.child(ids)),
      phase: (name) => (phases[`${name}Ms`] = Math.round(performance.now() - startedAt)),
    };
    const lock = keepLocked(message, transport.lockMs, delivery);
    try {
      const slot = await handling.take(1, signal);
      delivery.phase("received");
      // What has not begun when the stop comes is another process's to begin.
      const settlement = slot === 0 ? abandon : await decide(message, delivery).finally(() => handling.give(slot));
      await lock.stop();
      await settling.execute(() => settle(message, settlement));
      delivery.phase("settled");
      messageLog.debug({ settlement: settlement.settle, ...phases }, "message settled");
    } catch (error) {
      // Its lock expires by itself and it is delivered again; the row decides what that means.
      messageLog.warn({ err: error, ...phases }, error instanceof LockLostError ? "lock lost" : "message not settled");
    } finally {
      await lock.stop();
    }
  }

  async function decide(message: LockedMessage, delivery: Delivery): Promise<Settlement> {
    const giveUpAt = performance.now() + (options.abandonAfterMs ?? 60_000);
    for (;;) {
      if (deadline.signal.aborted) return abandon;
      try {
        if (from === "queue" && message.body.length > maxBodyCharacters) {
          throw new PermanentError("invalid-message", "is larger than a message may be");
        }
        return await handle(message, delivery);
      } catch (error) {
        if (error instanceof PermanentError) {
          // Of a damaged body no more than its ids is known, and nothing is failed on their word.
          const salvaged = error.code === "invalid-message" ? salvageIds(message.body) : undefined;
          delivery.log.error({ err: error, code: error.code, ...(salvaged && { salvaged }) }, "message dead-lettered");
          return { settle: "dead-letter", reason: error.code, description: error.message };
        }
        if (!isDatabaseAway(error)) {
          delivery.log.error({ err: error }, "message abandoned");
          const pause = jitter(Math.min(5_000, 50 * 2 ** message.deliveryCount));
          await sleep(pause, undefined, { signal: deadline.signal }).catch(() => {});
          return abandon;
        }
        database.close(error);
        const patience = AbortSignal.any([
          deadline.signal,
          AbortSignal.timeout(Math.max(1, Math.ceil(giveUpAt - performance.now()))),
        ]);
        await database.whenOpen(patience);
        if (patience.aborted) return abandon;
      }
    }
  }

  // The grace begins with the signal: the last receive may take a while to return.
  let timer: ReturnType<typeof setTimeout> | undefined;
  const startGrace = () => (timer = setTimeout(() => deadline.abort(new Error("the grace is over")), graceMs));
  if (signal.aborted) startGrace();
  else signal.addEventListener("abort", startGrace, { once: true });
  await Promise.all(Array.from({ length: receivers }, receiveInLoop));
  if (deliveries.size > 0) log.info({ locked: deliveries.size }, "draining");
  while (deliveries.size > 0) await Promise.all(deliveries);
  clearTimeout(timer);
  drained.abort();
}

async function settle(message: LockedMessage, settlement: Settlement): Promise<void> {
  if (settlement.settle === "complete") await message.complete();
  else if (settlement.settle === "abandon") await message.abandon();
  else await message.moveToDeadLetters(settlement.reason, settlement.description);
}

/** Renews a lock at a third of its time until stopped or lost. */
function keepLocked(message: LockedMessage, lockMs: number, delivery: Delivery): { stop(): Promise<void> } {
  let renewal: Promise<void> = Promise.resolve();
  let busy = false;
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    renewal = message.renewLock().catch((error: unknown) => {
      delivery.log.warn({ err: error }, "lock not renewed");
      if (error instanceof LockLostError) clearInterval(timer);
    }).finally(() => (busy = false));
  }, lockMs / 3);
  return {
    async stop() {
      clearInterval(timer);
      await renewal;
    },
  };
}

interface Gate {
  close(error: unknown): void;
  /** Resolves when it is open, or when the signal is aborted. */
  whenOpen(signal: AbortSignal): Promise<void>;
}

/** Shut while the database is away; one prober for everybody who waits. */
function createGate(probe: () => Promise<unknown>, log: Logger, drained: AbortSignal): Gate {
  let opening: Promise<void> | null = null;
  async function reopen(): Promise<void> {
    for (let failures = 0;; failures++) {
      await sleep(jitter(Math.min(2_000, 100 * 2 ** failures)), undefined, { signal: drained }).catch(() => {});
      if (drained.aborted) return; // nobody waits any more, and the process has to end
      const answered = await probe().then(() => true, () => false);
      if (answered) break;
    }
    opening = null;
    log.info("database is back");
  }
  return {
    close(error) {
      if (opening) return;
      log.warn({ err: error }, "database is away, receiving stops");
      opening = reopen();
    },
    async whenOpen(signal) {
      if (!opening || signal.aborted) return;
      const aborted = Promise.withResolvers<void>();
      const onAbort = () => aborted.resolve();
      signal.addEventListener("abort", onAbort, { once: true });
      await Promise.race([opening, aborted.promise]);
      signal.removeEventListener("abort", onAbort);
    },
  };
}

function jitter(milliseconds: number): number {
  return milliseconds * (0.5 + Math.random());
}

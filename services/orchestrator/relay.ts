import { setTimeout as sleep } from "node:timers/promises";
import { type Alarm, createAlarm } from "../../shared/alarm.ts";
import { claimHintBatches, claimTaskBatches } from "../../shared/store/outbox.ts";
import { sendBatches } from "../../shared/transport/send-batches.ts";
import type { TransportName } from "../../shared/transports.ts";
import type { Orchestrator } from "./orchestrator.ts";

export interface RelayOptions {
  /** Unfinished messages per queue that it keeps in the broker. */
  readonly windows: Readonly<Record<TransportName, number>>;
  /** Pause of an idle relay; a wake ends it. */
  readonly idleMs: number;
  readonly signal: AbortSignal;
}

/** Batches locked at a time: few enough to be sent well within their lease. Queue Storage takes each message by itself. */
const hintsAtOnce = 20;
const taskBatchesAtOnce: Readonly<Record<TransportName, number>> = { bullmq: 10, service_bus: 10, storage_queue: 2 };

/** A relay that runs until its signal is aborted. */
export interface Relay {
  wake(): void;
  readonly done: Promise<void>;
}

/** Sends what is due in the outbox, per transport, within the send window. Any number of relays may run. */
export function startRelay(orchestrator: Omit<Orchestrator, "wakeRelay">, { windows, idleMs, signal }: RelayOptions): Relay {
  const { sql, id, transports, log } = orchestrator;
  const alarms = new Map<TransportName, Alarm>([...transports.keys()].map((name) => [name, createAlarm()]));

  async function relay(transport: TransportName, alarm: Alarm): Promise<void> {
    const sender = `${id}/relay-${transport}`;
    for (let failures = 0; !signal.aborted;) {
      let pauseMs = idleMs;
      try {
        const claimed = [
          ...await claimHintBatches(sql, sender, transport, hintsAtOnce),
          ...await claimTaskBatches(sql, sender, transport, { window: windows[transport], limit: taskBatchesAtOnce[transport] }),
        ];
        const sent = await sendBatches({ db: sql, sender, transports, log }, claimed);
        if (claimed.length > 0 && sent === claimed.length) pauseMs = 0;
        // One queue that can't be sent to is no reason to let the others wait: its batches back off by themselves.
        failures = claimed.length > 0 && sent === 0 ? failures + 1 : 0;
      } catch (error) {
        if (failures++ === 0) log.warn({ err: error, transport }, "relay can't read the outbox");
      }
      if (failures > 0) {
        // A wake means new work; a broker or a database that is away is no better for it.
        await sleep(Math.min(5_000, 200 * 2 ** Math.min(failures, 8)) * (0.5 + Math.random()), undefined, { signal }).catch(
          () => {},
        );
      } else if (pauseMs > 0) {
        await alarm.sleep(pauseMs, signal);
      }
    }
  }

  return {
    wake() {
      for (const alarm of alarms.values()) alarm.wake();
    },
    done: Promise.all([...alarms].map(([name, alarm]) => relay(name, alarm))).then(() => {}),
  };
}

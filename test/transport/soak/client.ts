// Sends numbered messages at full rate over the transport service_bus, receives them as a role would, and tells its parent every
// second what came. Started by service-bus-soak.long.test.ts with two connection strings, the queue, and for how long to send.
import { setTimeout as sleep } from "node:timers/promises";
import { destination, pino } from "pino";
import * as v from "valibot";
import { consume } from "../../../shared/transport/consume.ts";
import { openServiceBusTransport } from "../../../shared/transport/service-bus.ts";
import { complete } from "../../../shared/transport/transport.ts";
import { createSequence } from "./sequences.ts";

const producerCount = 4;
const batchSize = 100;
/** Messages sent and not received: sending is quicker than receiving, and would only fill the broker. */
const maxUnderWay = 4_000;
/** How long the end waits for a message that doesn't come. */
const patienceMs = 60_000;

const Numbered = v.object({ producer: v.number(), number: v.number() });
const [connectionString = "", adminConnectionString = "", queue = "", sendMs = ""] = process.argv.slice(2);
const log = pino({ level: "warn" }, destination(2));
const transport = openServiceBusTransport({ connectionString, adminConnectionString }, { log });
const sequences = Array.from({ length: producerCount }, createSequence);
const sent: number[] = sequences.map(() => 0);
const stopping = new AbortController();
let doubles = 0;
let lastAt = performance.now();
let longestGapMs = 0;

const total = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0);
const underWay = () => total(sent) - total(sequences.map(({ received }) => received));

function noteTime(): void {
  const now = performance.now();
  longestGapMs = Math.max(longestGapMs, now - lastAt);
  lastAt = now;
}

async function produce(producer: number, until: number): Promise<void> {
  while (performance.now() < until) {
    while (underWay() > maxUnderWay) await sleep(1);
    const first = sent[producer] ?? 0;
    sent[producer] = first + batchSize;
    await transport.send(
      queue,
      Array.from({ length: batchSize }, (_, index) => ({
        messageId: `${producer}-${first + index}`,
        body: JSON.stringify({ producer, number: first + index }),
      })),
    );
  }
}

function report(): void {
  process.send?.({
    soak: {
      sent: total(sent),
      received: total(sequences.map(({ received }) => received)),
      lost: underWay(),
      doubles,
      longestGapMs: Math.round(longestGapMs),
    },
  });
}

await transport.provision([queue]);
const consuming = consume(transport, queue, async ({ body }) => {
  const { producer, number } = v.parse(Numbered, JSON.parse(body));
  noteTime();
  if (!sequences[producer]?.note(number)) doubles++;
  return complete;
}, {
  concurrency: 32,
  prefetch: 32,
  receivers: 2,
  graceMs: 10_000,
  signal: stopping.signal,
  log,
  probeDatabase: async () => {},
});
const reporting = setInterval(report, 1_000);
const until = performance.now() + Number(sendMs);
lastAt = performance.now();
await Promise.all(sent.map((_, producer) => produce(producer, until)));
while (underWay() > 0 && performance.now() - lastAt < patienceMs) await sleep(10);
noteTime();
stopping.abort();
await consuming;
const { active, deadLettered } = await transport.counts(queue);
await transport.close();
clearInterval(reporting);
report();
process.send?.({ left: { active, deadLettered } });

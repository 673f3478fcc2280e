import { mkdir, writeFile } from "node:fs/promises";
import { cpus, loadavg } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { expect, test } from "vitest";
import { heapFlags } from "../../shared/heap.ts";
import { type Memory, type SoakProcess, startSoakProcess } from "./soak/soak-process.ts";

const minutes = Number(process.env.SLUICE_SOAK_MINUTES ?? 10);
const sampleMs = 2_000;
/**
 * How much more the second half may hold at most than the first one did. At 2,000 messages a second, five minutes that kept 14 bytes
 * of each message would exceed it. What is resident is left to V8 and the kernel, and so less exact.
 */
const slackBytes = { usedBytes: 8 * 1024 ** 2, residentBytes: 32 * 1024 ** 2 };
/** Between two messages that come, at the full rate of a machine that is shared. */
const maxGapMs = 5_000;

const Soak = v.object({
  sent: v.number(),
  received: v.number(),
  lost: v.number(),
  doubles: v.number(),
  longestGapMs: v.number(),
});
const Left = v.object({ active: v.number(), deadLettered: v.number() });

test(`${minutes} minutes at full rate: nothing lost, no stall, no growth`, async () => {
  const broker = startSoakProcess("dev/service-bus-broker/main.ts", ["--port=0", "--admin-port=0", "--queue=soak"]);
  let client: SoakProcess | undefined;
  try {
    await expect.poll(broker.output, { timeout: 30_000 }).toContain("queues          soak");
    const [connectionString, adminConnectionString] = broker.output().match(/Endpoint=\S+/g) ?? [];
    if (!connectionString || !adminConnectionString) throw new Error(`no connection strings in ${broker.output()}`);
    const startedAt = performance.now();
    const sendMs = minutes * 60_000;
    client = startSoakProcess(
      "test/transport/soak/client.ts",
      [connectionString, adminConnectionString, "soak", String(sendMs)],
      heapFlags,
    );
    const told = follow(client);
    const samples = { client: [] as Memory[], broker: [] as Memory[] };
    while (performance.now() - startedAt < sendMs && client.child.exitCode === null) {
      await sleep(sampleMs);
      samples.client.push(await client.memory());
      samples.broker.push(await broker.memory());
    }
    await expect.poll(() => told.left(), { timeout: 120_000, interval: 500, message: client.output() }).toBeDefined();
    const soak = told.soak();
    const memory = { client: inHalves(samples.client), broker: inHalves(samples.broker) };
    const figures = {
      command: "SLUICE_LONG_TESTS=true npx vitest run test/transport/service-bus-soak",
      date: new Date().toISOString().slice(0, 10),
      machine: `${cpus().length} cores, load ${loadavg()[0]?.toFixed(1)}`,
      minutes,
      ...soak,
      messagesPerSecond: Math.round((soak?.received ?? 0) / minutes / 60),
      warnings: client.output().split("\n").filter((line) => line !== "").length,
      left: told.left(),
      memoryMb: { client: inMegabytes(memory.client), broker: inMegabytes(memory.broker) },
      samples: samples.client.length,
    };
    console.log(figures, client.output().slice(0, 2_000));
    await mkdir("docs/figures", { recursive: true });
    await writeFile("docs/figures/service-bus-soak.json", `${JSON.stringify(figures, null, 2)}\n`);
    expect(soak?.lost).toBe(0);
    expect(soak?.received).toBe(soak?.sent);
    expect(soak?.sent).toBeGreaterThan(minutes * 60 * 100);
    expect(told.left()).toEqual({ active: 0, deadLettered: 0 });
    expect(soak?.longestGapMs).toBeLessThan(maxGapMs);
    for (const { first, second } of Object.values(memory)) {
      for (const kind of ["usedBytes", "residentBytes"] as const) {
        expect(second[kind], kind).toBeLessThanOrEqual(first[kind] + slackBytes[kind]);
      }
    }
  } finally {
    if (client && client.child.exitCode === null) await client.end();
    await broker.end();
  }
}, (minutes + 5) * 60_000);

/** The newest of what the client tells. */
function follow({ child }: SoakProcess) {
  let soak: v.InferOutput<typeof Soak> | undefined;
  let left: v.InferOutput<typeof Left> | undefined;
  child.on("message", (message) => {
    const parsed = v.safeParse(v.union([v.object({ soak: Soak }), v.object({ left: Left })]), message);
    if (!parsed.success) return;
    if ("soak" in parsed.output) soak = parsed.output.soak;
    else left = parsed.output.left;
  });
  return { soak: () => soak, left: () => left };
}

interface Halves {
  readonly first: Memory;
  readonly second: Memory;
}

/** The most of each half. */
function inHalves(samples: readonly Memory[]): Halves {
  const middle = Math.floor(samples.length / 2);
  const most = (some: readonly Memory[]) => ({
    usedBytes: Math.max(...some.map(({ usedBytes }) => usedBytes)),
    residentBytes: Math.max(...some.map(({ residentBytes }) => residentBytes)),
  });
  return { first: most(samples.slice(0, middle)), second: most(samples.slice(middle)) };
}

function inMegabytes({ first, second }: Halves) {
  const round = (bytes: number) => Math.round(bytes / 1024 ** 2 * 10) / 10;
  const convert = ({ usedBytes, residentBytes }: Memory) => ({ used: round(usedBytes), resident: round(residentBytes) });
  return { firstHalf: convert(first), secondHalf: convert(second) };
}

import { mkdir, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { brokers } from "../support/brokers.ts";
import { runCrashes } from "./crashes.ts";

const kills = Number(process.env.SLUICE_KILLS ?? 1_000);

describe.each(brokers)("$name", ({ name, missing, start }) => {
  test.skipIf(missing)(`${kills} SIGKILLs: every job ends right`, async () => {
    const broker = await start();
    try {
      const seed = 1_000_003;
      const startedAt = performance.now();
      const report = await runCrashes({ broker, seed, kills, n: 300, jobsAtOnce: 2 });
      const figures = { broker: name, seed, seconds: Math.round((performance.now() - startedAt) / 1000), ...report };
      console.log(figures);
      await mkdir("docs/figures", { recursive: true });
      await writeFile(`docs/figures/kills-${name.replaceAll(" ", "-")}.json`, `${JSON.stringify(figures, null, 2)}\n`);
      expect(report.inFlight).toBeGreaterThanOrEqual(kills * 0.8);
    } finally {
      await broker.stop();
    }
  });
});

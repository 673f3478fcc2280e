import { describe, expect, test } from "vitest";
import { brokers } from "../support/brokers.ts";
import { killWhileTakingIn } from "./intake-kills.ts";

describe.each(brokers)("over $name", ({ missing, start }) => {
  test.skipIf(missing)("poison-handlers that are killed at random take in 5,500 dead letters, each once", async () => {
    const broker = await start();
    try {
      const report = await killWhileTakingIn(broker, 5_000, { seed: 20_261_126, kills: 60 });
      console.log(JSON.stringify(report));
      expect(report.atWork).toBeGreaterThan(10);
    } finally {
      await broker.stop();
    }
  });
});

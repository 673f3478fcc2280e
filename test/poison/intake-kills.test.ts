import { describe, expect, test } from "vitest";
import { brokers } from "../support/brokers.ts";
import { killWhileTakingIn } from "./intake-kills.ts";

/** One broker a transport, as in the crash suite. */
const tested = brokers.filter(({ name }) => name !== "bullmq on Redis");

describe.concurrent.each(tested)("over $name", ({ start }) => {
  test("poison-handlers that are killed at random take in 550 dead letters, each once, and no healthy row suffers", async () => {
    const broker = await start();
    try {
      const report = await killWhileTakingIn(broker, 500, { seed: 20_261_125, kills: 8 });
      console.log(JSON.stringify(report));
      expect(report.atWork).toBeGreaterThan(2);
    } finally {
      await broker.stop();
    }
  }, 360_000);
});

import { describe, expect, test } from "vitest";
import { brokers } from "../support/brokers.ts";
import { runCrashes } from "./crashes.ts";

/** BullMQ on Redis has its turn in the long test: here, one broker per transport. */
const tested = brokers.filter(({ name }) => name !== "bullmq on Redis");

describe.each(tested)("50 SIGKILLs over $name", ({ start }) => {
  test("every job ends right, interrupted work runs again within 30 s", async () => {
    const broker = await start();
    try {
      const report = await runCrashes({ broker, seed: 20_261_123, kills: 50, n: 300, jobsAtOnce: 2 });
      console.log(report);
      expect(report.inFlight).toBeGreaterThanOrEqual(40);
      expect(report.kills).toEqual({
        api: expect.any(Number),
        orchestrator: expect.any(Number),
        "task-runner": expect.any(Number),
      });
      expect(report.largeJobs).toBeGreaterThan(1);
    } finally {
      await broker.stop();
    }
  }, 400_000);
});

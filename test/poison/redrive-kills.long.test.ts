import { expect, test } from "vitest";
import { killWhileRedriving } from "./redrive-kills.ts";

test("poison-handlers that are killed at random redrive 5,000 items, each once", async () => {
  const report = await killWhileRedriving(5_000, { seed: 2, rate: 150, most: 60 });
  console.log(JSON.stringify(report));
  expect(report.atWork).toBeGreaterThan(10);
});

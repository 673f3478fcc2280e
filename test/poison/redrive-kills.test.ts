import { expect, test } from "vitest";
import { killWhileRedriving } from "./redrive-kills.ts";

test("poison-handlers that are killed at random redrive 500 items, each once", async () => {
  const report = await killWhileRedriving(500, { seed: 1, rate: 50, most: 8 });
  console.log(JSON.stringify(report));
  expect(report.atWork).toBeGreaterThan(2);
}, 360_000);

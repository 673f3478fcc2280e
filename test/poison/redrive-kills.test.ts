import { expect, test } from "vitest";
import { killWhileRedriving } from "./redrive-kills.ts";

test("poison-handlers that are killed at random redrive 500 items, each once", async () => {
  const report = await killWhileRedriving(500, 1);
  console.log(JSON.stringify(report));
  expect(report.inFlight).toBeGreaterThan(0);
}, 360_000);

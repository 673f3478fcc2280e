import { expect, test } from "vitest";
import { killWhileRedriving } from "./redrive-kills.ts";

test("poison-handlers that are killed at random redrive 5,000 items, each once", async () => {
  const report = await killWhileRedriving(5_000, 2);
  console.log(JSON.stringify(report));
  expect(report.inFlight).toBeGreaterThan(3);
});

import { expect, test } from "vitest";
import { adviseServices, loadConfig } from "./config.ts";

test("the poison-handler must be told where the dead letters go, unless it is already, or they stay with their queues", () => {
  const load = (poisonQueue?: string, transports = "service_bus,bullmq") =>
    loadConfig({ TRANSPORTS: transports, ...(poisonQueue && { AZURE_SERVICE_BUS_POISON_QUEUE: poisonQueue }) });
  expect(adviseServices(load(), "standard")).toContain("set AZURE_SERVICE_BUS_POISON_QUEUE=sb-poison");
  expect(adviseServices(load("dead-ends"), "standard")).toBe(undefined);
  expect(adviseServices(load("dead-ends"), "basic")).toContain("unset AZURE_SERVICE_BUS_POISON_QUEUE");
  expect(adviseServices(load(), "basic")).toBe(undefined);
  expect(adviseServices(load(undefined, "bullmq"), "standard")).toBe(undefined);
});

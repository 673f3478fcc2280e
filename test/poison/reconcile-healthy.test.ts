import { expect, onTestFinished } from "vitest";
import { brokers } from "../support/brokers.ts";
import { test } from "../support/database.ts";
import { reconcileUnderLoad } from "./reconcile-under-load.ts";

const onPostgres = brokers.find(({ name }) => name === "bullmq on PostgreSQL");

test("reconciliation in a loop on a healthy system under load finds nothing in a minute", async ({ sql }) => {
  const broker = await onPostgres?.start();
  if (!broker) throw new Error("there is no such broker");
  onTestFinished(() => broker.stop());
  const transport = broker.open();
  onTestFinished(() => transport.close());
  const report = await reconcileUnderLoad(sql, transport, { seconds: 60, pauseMs: 500 });
  console.log(`${report.runs} runs beside ${report.jobs} jobs`);
  expect(report).toMatchObject({ findings: [], failedRuns: [] });
  expect(report.runs).toBeGreaterThan(3);
  expect(report.jobs).toBeGreaterThan(3);
});

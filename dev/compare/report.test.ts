import { expect, test } from "vitest";
import { createMatrix, type Pipeline, type Work } from "./matrix.ts";
import { type Measurement, median } from "./measurement.ts";
import type { Facts } from "./read-facts.ts";
import { formatMeasurements, renderResults } from "./report.ts";

function createRun(jobMs: number, change: Partial<Facts> = {}): Facts {
  const wait = { p50: 10, p95: 20 };
  return {
    emulator: false,
    tasks: 1_000,
    failed_tasks: 0,
    attempts: 1_000,
    timed_out_attempts: 0,
    retries: 0,
    tasks_per_second: 1_000_000 / jobMs,
    latency_ms: {
      submit_to_first_task: wait,
      fan_out: { p50: 400, p95: 600 },
      queue_wait: wait,
      barrier_to_next_stage: wait,
      job: { p50: jobMs, p95: jobMs },
    },
    messages: 1_003,
    broker_operations: 3_009,
    cost: 0.00015,
    ...change,
  };
}

const work: Work = { jobType: "hello_world", size: 500, tasksPerMessage: 1 };
const thousand: Work = { ...work, size: 1_000 };
const measured = (pipeline: Pipeline, runs: readonly Facts[]): Measurement => ({ work, pipeline, runs });
const conditions = {
  date: "2026-01-02",
  commit: "abc",
  machine: "a machine",
  node: "v26",
  versions: { azurite: "1.2.3" },
  command: "npm run compare",
  runs: 3,
  load: [1, 2],
} as const;

/** The cells of the first row that begins so. */
function row(page: string, first: string): readonly string[] {
  const line = page.split("\n").find((each) => each.startsWith(`| ${first} |`)) ?? "";
  return line.split("|").slice(1, -1).map((cell) => cell.trim());
}

test("the medians of both pipelines stand beside each other, with how many times as fast the one was", () => {
  const slow = measured("storage_queue", [createRun(20_000), createRun(8_000), createRun(10_000)]);
  const fast = measured("service_bus", [createRun(2_000), createRun(2_500), createRun(4_000)]);
  const page = renderResults([slow, fast], conditions);
  expect(row(page, "hello_world, n = 500")).toEqual([
    "hello_world, n = 500",
    "1",
    "1,000",
    "10.00 (8.00–20.00)",
    "2.50 (2.00–4.00)",
    "4.0",
    "100",
    "400",
  ]);
  expect(row(page, "Service Bus: 1,000 tasks in 2.5 s")[1]).toContain("2.50 (2.00–4.00) s");
  expect(row(page, "10 to 20 times the throughput")[1]).toContain("4.0 times");
  expect(row(page, "No loss and no corruption")[1]).toContain("6 jobs, 6,000 tasks");
  expect(formatMeasurements([slow, fast])).toMatch(/hello_world, n = 500 +1 +storage_queue +1000 +10\.00 +100/);
});

test("how quickly a thousand tasks are queued is the fan-out of a stage of so many", () => {
  const page = renderResults(
    (["storage_queue", "service_bus"] as const).map((pipeline) => ({ work: thousand, pipeline, runs: [createRun(1)] })),
    conditions,
  );
  expect(row(page, "Service Bus: 1,000 tasks queued in 0.4 s")[1]).toContain("0.40 s");
});

test("a page says which brokers are emulators", () => {
  const page = (storage: boolean, serviceBus: boolean) =>
    renderResults([
      measured("storage_queue", [createRun(1, { emulator: storage })]),
      measured("service_bus", [createRun(1, { emulator: serviceBus })]),
    ], conditions);
  expect(page(true, true)).toContain("**Emulator: no broker here is Azure's.**");
  expect(page(false, true)).toContain("Service Bus is an emulator here");
  expect(page(false, false)).not.toContain("mulator:");
});

test("time-outs count in jobs of more than 1,000 tasks", () => {
  const page = renderResults([
    { work: thousand, pipeline: "storage_queue", runs: [createRun(1, { attempts: 2_003, timed_out_attempts: 3 })] },
    { work: thousand, pipeline: "service_bus", runs: [createRun(1, { attempts: 2_000 })] },
    measured("storage_queue", [createRun(1, { timed_out_attempts: 100 })]),
  ], conditions);
  expect(row(page, "No time-outs in jobs of more than 1,000 tasks")[1]).toContain("3 of 4,003 attempts");
});

test.each([[[3, 1, 2], 2], [[1, 2, 3, 10], 2.5], [[7], 7], [[], undefined]])("the median of %j is %j", (values, expected) => {
  expect(median(values)).toBe(expected);
});

test("the matrix is what the customer asked for, each with one task and with ten per message", () => {
  const sizes = (works: readonly Work[]) => works.map(({ jobType, size, tasksPerMessage }) => [jobType, size, tasksPerMessage]);
  expect(sizes(createMatrix({ quick: false }))).toEqual([
    ["hello_world", 100, 1],
    ["hello_world", 100, 10],
    ["hello_world", 500, 1],
    ["hello_world", 500, 10],
    ["hello_world", 1_000, 1],
    ["hello_world", 1_000, 10],
    ["list_container", 100, 1],
    ["list_container", 100, 10],
    ["list_container", 1_000, 1],
    ["list_container", 1_000, 10],
    ["list_container", 10_000, 1],
    ["list_container", 10_000, 10],
  ]);
  expect(sizes(createMatrix({ quick: true, only: "list_container" }))).toEqual([
    ["list_container", 100, 1],
    ["list_container", 100, 10],
  ]);
});

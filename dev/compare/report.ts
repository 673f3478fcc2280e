import { formatTable } from "../../shared/table.ts";
import { countTasks, nameWork, type Pipeline, type Work } from "./matrix.ts";
import { type Measurement, medianOf, seconds } from "./measurement.ts";
import type { Facts } from "./read-facts.ts";
import type { Surroundings } from "./surroundings.ts";

export interface Conditions extends Surroundings {
  readonly command: string;
  /** Of each job on each pipeline. */
  readonly runs: number;
  /** Of the machine, before and after. */
  readonly load: readonly [before: number, after: number];
}

/** Both pipelines on the same work. */
interface Pair {
  readonly work: Work;
  readonly storageQueue: Measurement;
  readonly serviceBus: Measurement;
}

const titles: Readonly<Record<Pipeline, string>> = { storage_queue: "Queue Storage", service_bus: "Service Bus" };

/** For the terminal. */
export function formatMeasurements(measurements: readonly Measurement[]): string {
  const headings = ["work", "per message", "pipeline", "tasks", "seconds", "tasks/s", "queue wait p50 ms", "messages", "failed"];
  return formatTable(
    headings,
    measurements.map((measurement) => [
      nameWork(measurement.work),
      measurement.work.tasksPerMessage,
      nameOf(measurement),
      countTasks(measurement.work),
      format(seconds(measurement), 2),
      format(rate(measurement)),
      format(medianOf(measurement, ({ latency_ms }) => latency_ms.queue_wait.p50)),
      format(medianOf(measurement, ({ messages }) => messages)),
      sum([measurement], ({ failed_tasks }) => failed_tasks),
    ]),
  );
}

/** The page that `npm run compare` writes; all its figures are measured. */
export function renderResults(measurements: readonly Measurement[], conditions: Conditions): string {
  const pairs = pair(measurements);
  return `# Service Bus and Queue Storage on the same work

Written by \`${conditions.command}\`: every job ran on each pipeline, one after the other, ${countRuns(conditions.runs)}.

${describeBrokers(measurements)}

| | |
| --- | --- |
| date | ${conditions.date}, commit ${conditions.commit} |
| machine | ${conditions.machine}; load before and after: ${conditions.load.join(" and ")} |
| Node | ${conditions.node} |
${Object.entries(conditions.versions).map(([name, version]) => `| ${name} | ${version} |`).join("\n")}

PostgreSQL, an api, an orchestrator, a poison-handler and a task-runner for each pipeline, all with their default settings, share
the machine with the brokers. Seconds go from the submission to the end of the job, by the clock of the database. A job of
\`hello_world\` on each pipeline went before, so that nothing is measured cold.

## Time and throughput

${
    table(
      [
        "work",
        "tasks per message",
        "tasks",
        "Queue Storage, s",
        "Service Bus, s",
        "times as fast",
        "Queue Storage, tasks/s",
        "Service Bus, tasks/s",
      ],
      pairs.map(({ work, storageQueue, serviceBus }) => [
        nameWork(work),
        work.tasksPerMessage,
        countTasks(work).toLocaleString("en"),
        spread(storageQueue),
        spread(serviceBus),
        format(ratio({ storageQueue, serviceBus }), 1),
        format(rate(storageQueue)),
        format(rate(serviceBus)),
      ]),
    )
  }

## Latency

Milliseconds; of each wait the median over the runs of the job's own p50 and p95.

${
    table(
      [
        "work",
        "tasks per message",
        "pipeline",
        "submission to first task",
        "fan-out, p95",
        "queue wait, p50",
        "queue wait, p95",
        "barrier to next stage",
      ],
      measurements.map((measurement) => [
        nameWork(measurement.work),
        measurement.work.tasksPerMessage,
        titles[measurement.pipeline],
        format(medianOf(measurement, ({ latency_ms }) => latency_ms.submit_to_first_task.p50)),
        format(medianOf(measurement, ({ latency_ms }) => latency_ms.fan_out.p95)),
        format(medianOf(measurement, ({ latency_ms }) => latency_ms.queue_wait.p50)),
        format(medianOf(measurement, ({ latency_ms }) => latency_ms.queue_wait.p95)),
        format(medianOf(measurement, ({ latency_ms }) => latency_ms.barrier_to_next_stage.p50)),
      ]),
    )
  }

The fan-out goes from the beginning of a stage to the sending of its last batch of messages. At most 500 unfinished messages are
kept in a queue of Queue Storage (the send window), so that there the fan-out of a larger stage takes as long as its tasks. The
queue wait goes from the sending of a task's message to the claim of the task: in a job of thousands it is the wait for those before
it.

## Messages and cost

Operations are three to a message (sent, received, settled), their prices those of the [comparison](api.md#transports-compared).
They don't depend on the machine, nor on emulators.

${
    table(
      ["work", "tasks per message", "pipeline", "messages", "operations", "US$ per million tasks"],
      measurements.map((measurement) => [
        nameWork(measurement.work),
        measurement.work.tasksPerMessage,
        titles[measurement.pipeline],
        format(medianOf(measurement, ({ messages }) => messages)),
        format(medianOf(measurement, ({ broker_operations }) => broker_operations)),
        format(medianOf(measurement, ({ cost, tasks }) => cost / tasks * 1_000_000), 2),
      ]),
    )
  }

## What was expected

${table(["expected", "measured here"], expectations(pairs, measurements))}

## What follows from it

${conclusions(pairs, measurements).map((line) => `- ${line}`).join("\n")}
`;
}

function pair(measurements: readonly Measurement[]): readonly Pair[] {
  return measurements.filter(({ pipeline }) => pipeline === "storage_queue").flatMap((storageQueue) => {
    const serviceBus = measurements.find(({ work, pipeline }) => pipeline === "service_bus" && work === storageQueue.work);
    return serviceBus ? [{ work: storageQueue.work, storageQueue, serviceBus }] : [];
  });
}

/** How many times as fast Service Bus was. */
function ratio({ storageQueue, serviceBus }: Omit<Pair, "work">): number | undefined {
  const [slow, fast] = [seconds(storageQueue), seconds(serviceBus)];
  return slow === undefined || !fast ? undefined : slow / fast;
}

function rate(measurement: Measurement): number | undefined {
  return medianOf(measurement, ({ tasks_per_second }) => tasks_per_second);
}

function describeBrokers(measurements: readonly Measurement[]): string {
  const emulated = measurements.filter(({ runs }) => runs.some(({ emulator }) => emulator)).map(({ pipeline }) => pipeline);
  if (emulated.length === 0) return "The brokers are Azure's.";
  if (new Set(emulated).size === 1) {
    const [only] = emulated;
    return `**Emulator: ${only && titles[only]} is an emulator here, the other one is Azure's. Their times can't be compared.**`;
  }
  return `**Emulator: no broker here is Azure's.** Service Bus is the broker in \`dev/service-bus-broker\`, which keeps messages in
memory, spoken to by the unmodified SDK; Queue Storage is Azurite, likewise in memory. There is no network, no throttling and no
replication. How the two compare in time says how these two programs do; \`npm run compare -- --azure\` asks Azure's.`;
}

function expectations(pairs: readonly Pair[], measurements: readonly Measurement[]): readonly (readonly string[])[] {
  const find = (jobType: Work["jobType"], size: number) =>
    pairs.find(({ work }) => work.jobType === jobType && work.size === size && work.tasksPerMessage === 1);
  const thousand = find("hello_world", 500);
  const stageOfThousand = find("hello_world", 1_000);
  const files = find("list_container", 10_000);
  const single = pairs.filter(({ work }) => work.tasksPerMessage === 1);
  const large = measurements.filter(({ work }) => countTasks(work) > 1_000);
  const timedOut = sum(large, ({ timed_out_attempts }) => timed_out_attempts);
  const attempts = sum(large, (facts) => facts.attempts);
  const jobs = measurements.reduce((count, { runs }) => count + runs.length, 0);
  return [
    ["Queue Storage: 1,000 tasks in 100 s", thousand ? `${spread(thousand.storageQueue)} s (hello_world, n = 500)` : "–"],
    ["Service Bus: 1,000 tasks in 2.5 s", thousand ? `${spread(thousand.serviceBus)} s (hello_world, n = 500)` : "–"],
    [
      "Service Bus: 1,000 tasks queued in 0.4 s",
      stageOfThousand
        ? `${
          format(inSeconds(medianOf(stageOfThousand.serviceBus, ({ latency_ms }) => latency_ms.fan_out.p50)), 2)
        } s (the fan-out of a stage of hello_world, n = 1,000)`
        : "–",
    ],
    [
      "Service Bus: 10,000 files without a time-out",
      files
        ? `${spread(files.serviceBus)} s, ${sum([files.serviceBus], (facts) => facts.timed_out_attempts)} attempts timed out`
        : "–",
    ],
    [
      "No time-outs in jobs of more than 1,000 tasks",
      large.length === 0 ? "–" : `${timedOut} of ${attempts.toLocaleString("en")} attempts timed out, on both pipelines`,
    ],
    ["10 to 20 times the throughput", `${range(single.map(ratio))} times, with one task per message`],
    [
      "No loss and no corruption",
      `${jobs} jobs, ${
        sum(measurements, ({ tasks }) => tasks).toLocaleString("en")
      } tasks: each result was compared with what its parameters ask for, none was wrong`,
    ],
  ];
}

function conclusions(pairs: readonly Pair[], measurements: readonly Measurement[]): readonly string[] {
  const of = (count: number) => pairs.filter(({ work }) => work.tasksPerMessage === count);
  const gain = (side: "storageQueue" | "serviceBus") =>
    range(
      of(1).map((single) => {
        const several = of(10).find(({ work }) => work.jobType === single.work.jobType && work.size === single.work.size);
        const [before, after] = [seconds(single[side]), several && seconds(several[side])];
        return before === undefined || !after ? undefined : before / after;
      }),
    );
  const wait = (pipeline: Pipeline, read: (facts: Facts) => number | null) =>
    range(
      measurements.filter((each) => each.pipeline === pipeline && each.work.size === 100).map((each) => medianOf(each, read)),
      0,
    );
  const isEmulated = measurements.some(({ runs }) => runs.some(({ emulator }) => emulator));
  return [
    `With one task per message, Service Bus was ${range(of(1).map(ratio))} times as fast as Queue Storage; with ten, ${
      range(of(10).map(ratio))
    } times.`,
    `Ten tasks per message made Queue Storage ${gain("storageQueue")} times as fast, and Service Bus ${
      gain("serviceBus")
    } times. They are about a tenth of the operations, which is what a namespace at its limit is short of. The price is that tasks
of one message are locked, and delivered again, together.`,
    `Queue Storage has no push. An idle queue is asked every five seconds at last, so a job of a hundred mostly waits for that: from its
submission to its first task ${
      wait("storage_queue", ({ latency_ms }) => latency_ms.submit_to_first_task.p50)
    } ms, on Service Bus ${
      wait("service_bus", ({ latency_ms }) => latency_ms.submit_to_first_task.p50)
    } ms; from a barrier to the next stage ${
      wait("storage_queue", ({ latency_ms }) => latency_ms.barrier_to_next_stage.p50)
    } ms, on Service Bus ${wait("service_bus", ({ latency_ms }) => latency_ms.barrier_to_next_stage.p50)} ms.`,
    ...(isEmulated
      ? [
        `Every broker and role shares this machine's cores, so both pipelines are limited by the processor. Azure's limits are others:
about 1,000 operations a second in a Standard namespace, 2,000 messages a second in a queue of Queue Storage, and milliseconds of
network for each request.`,
      ]
      : []),
    "Jobs end the same on both, so a rollout can go by cost and latency alone ([routing](routing.md)).",
  ];
}

function nameOf({ pipeline, runs }: Measurement): string {
  return runs.some(({ emulator }) => emulator) ? `${pipeline} (emulator)` : pipeline;
}

function inSeconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1000;
}

function sum(measurements: readonly Measurement[], read: (facts: Facts) => number): number {
  return measurements.flatMap(({ runs }) => runs).reduce((total, facts) => total + read(facts), 0);
}

/** The median, and if there are several runs the quickest and the slowest. */
function spread(measurement: Measurement): string {
  const all = measurement.runs.map(({ latency_ms }) => latency_ms.job.p50).filter((ms) => ms !== null).map((ms) => ms / 1000);
  const middle = format(seconds(measurement), 2);
  return all.length < 2 ? middle : `${middle} (${format(Math.min(...all), 2)}–${format(Math.max(...all), 2)})`;
}

function range(values: readonly (number | undefined)[], decimals = 1): string {
  const known = values.filter((value) => value !== undefined);
  const [low, high] = [format(Math.min(...known), decimals), format(Math.max(...known), decimals)];
  return known.length === 0 ? "–" : low === high ? low : `${low} to ${high}`;
}

function format(value: number | undefined, decimals = 0): string {
  return value === undefined
    ? "–"
    : value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

function countRuns(runs: number): string {
  return runs === 1 ? "once" : `${runs} times; the figures are medians, with the quickest and the slowest run in brackets`;
}

function table(headings: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const line = (cells: readonly (string | number)[]) => `| ${cells.join(" | ")} |`;
  return [line(headings), line(headings.map(() => "---")), ...rows.map(line)].join("\n");
}

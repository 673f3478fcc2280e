import { expect, test } from "vitest";
import { findUnendedJobs, findViolations } from "../../shared/store/invariants.ts";
import { defaultQueues } from "../../shared/transport/queues.ts";
import { startServiceBusBroker } from "../../dev/service-bus-broker/start.ts";
import { startAzurite } from "../support/azurite.ts";
import { createTestDatabase } from "../support/database.ts";
import { expectGreetings } from "../support/greetings.ts";
import { whenEnded } from "../support/pipeline.ts";
import { startRole } from "../support/processes.ts";
import type { TransportName } from "../../shared/transports.ts";
import { openStorageQueueTransport } from "../../shared/transport/storage-queue.ts";

/** A broker that can be away. */
interface Away {
  readonly transport: TransportName;
  readonly environment: Record<string, string>;
  kill(): Promise<void>;
  restart(): Promise<void>;
  stop(): Promise<void>;
}

async function startStorageQueue(): Promise<Away> {
  const { connectionString, kill, restart, stop } = await startAzurite();
  const transport = openStorageQueueTransport({ connectionString });
  await transport.provision(Object.values(defaultQueues.storage_queue));
  await transport.close();
  return {
    transport: "storage_queue",
    environment: { AZURE_STORAGE_CONNECTION_STRING: connectionString },
    kill,
    restart,
    stop,
  };
}

/** Killed, it forgets its messages: the rows know. */
async function startServiceBus(): Promise<Away> {
  const queues = Object.fromEntries(Object.values(defaultQueues.service_bus).map((name) => [name, { lockDurationMs: 5_000 }]));
  let broker = await startServiceBusBroker({ queues });
  const { port, adminPort, connectionString, adminConnectionString } = broker;
  return {
    transport: "service_bus",
    environment: {
      AZURE_STORAGE_CONNECTION_STRING: "UseDevelopmentStorage=true",
      AZURE_SERVICE_BUS_CONNECTION_STRING: connectionString,
      SERVICE_BUS_ADMIN_CONNECTION_STRING: adminConnectionString,
    },
    kill: () => broker.stop(),
    async restart() {
      broker = await startServiceBusBroker({ port, adminPort, queues });
    },
    stop: () => broker.stop(),
  };
}

/** The roles of both transports, as processes: the one whose broker will be away, and BullMQ, on the database. */
async function startStack(start: () => Promise<Away>, environment: Record<string, string> = {}) {
  const [database, away] = await Promise.all([createTestDatabase(), start()]);
  const common = {
    DATABASE_URL: database.url,
    CLAIM_CHECK_DIRECTORY: "/tmp/sluice-routing-claim-checks",
    ...away.environment,
    ...environment,
  };
  const both = { ...common, TRANSPORTS: `${away.transport},bullmq` };
  const roles = await Promise.all([
    startRole("api", both),
    startRole("orchestrator", both),
    startRole("task-runner", { ...common, TRANSPORTS: away.transport }),
    startRole("task-runner", { ...common, TRANSPORTS: "bullmq" }),
  ]);
  const url = `http://127.0.0.1:${roles[0].port}`;
  return {
    sql: database.sql,
    away,
    async post(path: string, body: object) {
      const response = await fetch(`${url}${path}`, { method: "POST", body: JSON.stringify(body) });
      // deno-lint-ignore no-explicit-any
      return { status: response.status, body: await response.json() as any };
    },
    async stop() {
      await Promise.all(roles.map((role) => role.end("SIGKILL")));
      await away.stop();
      await database.drop();
    },
  };
}

test(
  "a broker that is away while 200 jobs come costs time, not jobs: all are accepted, all end, and each says where it is",
  async () => {
    const stack = await startStack(startServiceBus, { FALLBACK_TRANSPORT: "bullmq", USE_SERVICE_BUS: "true" });
    try {
      const jobs = new Map<string, { transport: string; fallback: boolean; name: string }>();
      for (let serial = 0; serial < 200; serial++) {
        if (serial === 20) await stack.away.kill();
        if (serial === 150) await stack.away.restart();
        const name = `job ${serial}`;
        const { status, body } = await stack.post("/api/jobs/submit/hello_world", { n: 2, name });
        expect(status).toBe(202);
        jobs.set(body.job_id, { transport: body.queue_info.transport, fallback: body.queue_info.fallback_mode, name });
      }
      expect(jobs.size).toBe(200);
      for (const [jobId, { transport, name }] of jobs) {
        expect(await whenEnded(stack.sql, jobId)).toMatchObject({ status: "completed", result: { greetings: 2, replies: 2 } });
        await expectGreetings(stack.sql, jobId, 2, name);
        const [row] = await stack.sql`select processing_path from jobs where id = ${jobId}`;
        expect(row?.processing_path).toBe(transport);
      }
      const fellBack = [...jobs.values()].filter(({ fallback }) => fallback);
      expect(fellBack.length).toBeGreaterThan(50);
      expect(fellBack.every(({ transport }) => transport === "bullmq")).toBe(true);
      expect(await findViolations(stack.sql)).toEqual([]);
    } finally {
      await stack.stop();
    }
  },
  180_000,
);

test("the jobs of a broker that is gone for good can be rehomed in the middle of their work", async () => {
  const stack = await startStack(startStorageQueue);
  try {
    const submit = (name: string) => stack.post("/api/jobs/submit/hello_world", { n: 400, name, transport: "storage_queue" });
    const [first, second] = await Promise.all([submit("first"), submit("second")]);
    await expect.poll(async () => (await stack.sql`select from tasks where status = 'completed'`).length, { timeout: 30_000 })
      .toBeGreaterThan(20);
    await stack.away.kill();
    const third = await submit("third"); // waits: its broker is gone, and nobody named a fallback
    expect(third).toMatchObject({ status: 202, body: { queue_info: { queued: false } } });
    const answer = await stack.post("/api/admin/rehome", { from: "storage_queue", to: "bullmq" });
    expect(answer).toMatchObject({ status: 200, body: { jobs: 3 } });
    expect(answer.body.batches).toBeGreaterThan(1);
    for (const [name, { body }] of [["first", first], ["second", second], ["third", third]] as const) {
      const job = await whenEnded(stack.sql, body.job_id);
      expect(job, name).toMatchObject({ status: "completed", result: { greetings: 400, replies: 400 } });
      await expectGreetings(stack.sql, body.job_id, 400, name);
    }
    expect(await stack.post("/api/admin/rehome", { from: "storage_queue", to: "bullmq" })).toMatchObject({
      status: 200,
      body: { jobs: 0, batches: 0 },
    });
    expect(await findUnendedJobs(stack.sql)).toEqual([]);
    expect(await findViolations(stack.sql)).toEqual([]);
  } finally {
    await stack.stop();
  }
}, 180_000);

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { handleHelloWorldGreeting } from "../../services/task-runner/tasks/hello-world-greeting.ts";
import { handleHelloWorldReply } from "../../services/task-runner/tasks/hello-world-reply.ts";
import { helloWorld } from "../../shared/jobs/hello-world.ts";
import { openDatabase, type Sql } from "../../shared/store/database.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { migrate } from "../../shared/store/migrate.ts";
import { type Broker, brokers } from "../support/brokers.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { expectGreetings } from "../support/greetings.ts";
import { type Pipeline, startPipeline, whenEnded } from "../support/pipeline.ts";
import { sendTwice } from "../support/send-twice.ts";

describe.each(brokers)("hello_world over $name", ({ missing, start }) => {
  let server: PostgresServer;
  let sql: Sql;
  let broker: Broker;
  let pipeline: Pipeline;

  beforeAll(async () => {
    if (missing) return;
    [server, broker] = await Promise.all([startPostgres(), start()]);
    sql = openDatabase(server.url, { applicationName: "tests", max: 20 });
    await migrate(sql);
    pipeline = await startPipeline({
      sql,
      transport: sendTwice(broker.open()),
      jobs: [helloWorld],
      handlers: [handleHelloWorldGreeting, handleHelloWorldReply],
    });
  });
  afterAll(async () => {
    if (missing) return;
    await pipeline.stop();
    for (const { transport } of pipeline.transports.values()) await transport.close();
    await broker.stop();
    await sql.end({ timeout: 5 });
    await server.stop();
  });

  test.skipIf(missing)("n = 1, 2, 3, 4, 30, 100, 101 and 1,000 give exact results, every message delivered twice", async () => {
    const jobs = await Promise.all([1, 2, 3, 4, 30, 100, 101, 1000].map(async (n) => ({
      n,
      jobId: await pipeline.submit("hello_world", { n, name: "Zoë", message: null, failure_rate: 0.05 }),
    })));
    for (const { n, jobId } of jobs) {
      expect(await whenEnded(sql, jobId)).toMatchObject({
        status: "completed",
        error: null,
        result: { greetings: n, replies: n },
      });
      await expectGreetings(sql, jobId, n, "Zoë");
    }
    expect(await findViolations(sql)).toEqual([]);
  });

  test.skipIf(missing)("a broker and a Postgres that restart mid-job cost time, not work", async () => {
    const jobIds = await Promise.all(
      [1, 2, 3].map((copy) => pipeline.submit("hello_world", { n: 300, name: `n${copy}`, failure_rate: 0.1 })),
    );
    await broker.restart();
    await server.restart();
    for (const [copy, jobId] of jobIds.entries()) {
      expect(await whenEnded(sql, jobId)).toMatchObject({ status: "completed", result: { greetings: 300, replies: 300 } });
      await expectGreetings(sql, jobId, 300, `n${copy + 1}`);
    }
    expect(await findViolations(sql)).toEqual([]);
  });
});

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { handleHelloWorldGreeting } from "../../services/task-runner/tasks/hello-world-greeting.ts";
import { handleHelloWorldReply } from "../../services/task-runner/tasks/hello-world-reply.ts";
import { helloWorld } from "../../shared/jobs/hello-world.ts";
import { openDatabase, type Sql } from "../../shared/store/database.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type FailingTransport, failNthCall } from "../support/fail-nth-call.ts";
import { expectGreetings } from "../support/greetings.ts";
import { type Pipeline, startPipeline, whenEnded } from "../support/pipeline.ts";
import { type PostgresProxy, startPostgresProxy, type StatementFault } from "../support/postgres-proxy.ts";

describe("the nth call fails, for each n along one job", () => {
  let database: TestDatabase;
  let proxy: PostgresProxy;
  let proxied: Sql;
  let transport: FailingTransport;
  let pipeline: Pipeline;

  beforeAll(async () => {
    database = await createTestDatabase();
    proxy = await startPostgresProxy(database.url);
    proxy.setFault((n) => (n <= 6 ? "drop" : undefined)); // the database may be away when they start
    proxied = openDatabase(proxy.url, { applicationName: "tests", max: 8 });
    transport = failNthCall(openBullmqTransport({ databaseUrl: database.url }, { lockMs: 2_000 }));
    pipeline = await startPipeline({
      sql: proxied,
      clientSql: database.sql,
      transport,
      jobs: [helloWorld],
      handlers: [handleHelloWorldGreeting, handleHelloWorldReply],
    });
  });
  afterAll(async () => {
    await pipeline.stop();
    await transport.close();
    await proxied.end({ timeout: 5 });
    await proxy.stop();
    await database.drop();
  });

  async function runJob(name: string): Promise<void> {
    const { sql } = database;
    const jobId = await pipeline.submit("hello_world", { n: 4, name, message: null, failure_rate: 0 });
    expect(await whenEnded(sql, jobId)).toMatchObject({ status: "completed", result: { greetings: 4, replies: 4 } });
    await expectGreetings(sql, jobId, 4, name);
    expect(await findViolations(sql)).toEqual([]);
  }

  test.each<StatementFault>(["drop", "lose-answer", "cut-answer"])("a statement of the store: %s", async (fault) => {
    let struck = 0;
    for (let n = 1; n <= 30; n++) {
      proxy.setFault((statement) => {
        if (statement === n) struck += 1;
        return statement === n ? fault : undefined;
      });
      await runJob(`${fault} ${n}`);
    }
    proxy.setFault(null);
    expect(struck).toBe(30);
  }, 180_000);

  test.each(["before", "after"] as const)("a call of the transport, %s it took effect", async (moment) => {
    let n = 0;
    do {
      transport.failAt(++n, moment);
      await runJob(`${moment} ${n}`);
    } while (transport.struck > 0);
    transport.failAt(0, moment);
    expect(n).toBeGreaterThan(12); // a job of four greetings and four replies sends, receives and settles at least so often
  }, 180_000);
});

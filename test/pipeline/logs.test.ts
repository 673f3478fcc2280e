import { pino } from "pino";
import { expect } from "vitest";
import { handleHelloWorldGreeting } from "../../services/task-runner/tasks/hello-world-greeting.ts";
import { handleHelloWorldReply } from "../../services/task-runner/tasks/hello-world-reply.ts";
import { helloWorld } from "../../shared/jobs/hello-world.ts";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import { test } from "../support/database.ts";
import { startPipeline, whenEnded } from "../support/pipeline.ts";

test("every line about a message carries its ids and phases; no line carries a body", async ({ sql, database }) => {
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: "debug" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const transport = openBullmqTransport({ databaseUrl: database.url });
  const pipeline = await startPipeline({
    sql,
    transport,
    jobs: [helloWorld],
    handlers: [handleHelloWorldGreeting, handleHelloWorldReply],
    log,
  });
  const jobId = await pipeline.submit("hello_world", { n: 3, name: "Secret Name", message: "secret message", failure_rate: 0 });
  await whenEnded(sql, jobId);
  await transport.send(pipeline.queues.tasks, [{ messageId: "broken", body: '{"secret": "in a broken body"}' }]);
  await expect.poll(() => lines.filter(({ msg }) => msg === "message dead-lettered").length).toBe(1);
  await pipeline.stop();
  await transport.close();

  const settled = lines.filter(({ msg, jobId }) => msg === "message settled" && jobId !== undefined);
  expect(settled.length).toBeGreaterThanOrEqual(9); // a start, two stages complete, six tasks
  for (const line of settled) {
    expect(line).toMatchObject({
      jobId,
      correlationId: "tests",
      transport: "bullmq",
      queue: expect.any(String),
      messageId: expect.any(String),
      deliveryCount: 1,
      size: expect.any(Number),
      hash: expect.stringMatching(/^[0-9a-f]{16}$/),
      receivedMs: expect.any(Number),
      parsedMs: expect.any(Number),
      claimedMs: expect.any(Number),
      settledMs: expect.any(Number),
    });
  }
  const ofTasks = settled.filter(({ queue }) => queue === pipeline.queues.tasks);
  expect(ofTasks).toHaveLength(6);
  for (const line of ofTasks) {
    expect(line).toMatchObject({ taskId: expect.any(Number), ranMs: expect.any(Number), recordedMs: expect.any(Number) });
  }
  expect(JSON.stringify(lines)).not.toMatch(/secret/i);
});

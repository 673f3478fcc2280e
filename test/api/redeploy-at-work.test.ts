import { expect } from "vitest";
import { handleHelloWorldGreeting } from "../../services/task-runner/tasks/hello-world-greeting.ts";
import { handleHelloWorldReply } from "../../services/task-runner/tasks/hello-world-reply.ts";
import { helloWorld } from "../../shared/jobs/hello-world.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import { test } from "../support/database.ts";
import { startPipeline, whenEnded } from "../support/pipeline.ts";
import { createTestApi } from "./support.ts";

test("an orchestrator and a task-runner survive that the schema is redeployed under their work", async ({ sql, database }) => {
  const transport = openBullmqTransport({ databaseUrl: database.url });
  const handlers = [handleHelloWorldGreeting, handleHelloWorldReply];
  const pipeline = await startPipeline({ sql, transport, jobs: [helloWorld], handlers });
  const api = createTestApi(sql, { transports: pipeline.transports, allowSchemaRedeploy: true, allowAdminRoutes: true });
  const submit = (n: number) => api.post("/api/jobs/submit/hello_world", JSON.stringify({ n, failure_rate: 0.1 }));
  for (let round = 0; round < 3; round++) {
    const { body } = await submit(1_000);
    const atWork = () => sql`select from tasks where status = 'completed' limit 1`;
    await expect.poll(atWork, { timeout: 20_000, interval: 5 }).toHaveLength(1);
    const answer = await api.post("/api/db/schema/redeploy?confirm=yes");
    expect(answer.status).toBe(200);
    expect((await api.get(`/api/jobs/status/${body.job_id}`)).status).toBe(404);
  }
  const { status, body } = await submit(50);
  expect(status).toBe(202);
  expect(await whenEnded(sql, body.job_id)).toMatchObject({ status: "completed", result: { greetings: 50, replies: 50 } });
  expect(await findViolations(sql)).toEqual([]);
  await pipeline.stop();
  await transport.close();
});

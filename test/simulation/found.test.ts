import { describe, expect } from "vitest";
import { startJob, submitJob } from "../../shared/store/jobs.ts";
import { maxStageInterruptions, takeStage } from "../../shared/store/stages.ts";
import { interruptStages } from "../../shared/store/sweep.ts";
import { test } from "../support/database.ts";

describe("what the simulation found", () => {
  test("a stage at its bound is not worked on again if the sweep that counted died before it closed the job", async ({ sql }) => {
    const jobId = "a".repeat(64);
    await submitJob(sql, "api", {
      jobId,
      jobType: "any",
      parameters: {},
      processingPath: "bullmq",
      totalStages: 1,
      correlationId: "tests",
    });
    const seed = {
      number: 1,
      name: "only",
      taskType: "any",
      queue: "tasks",
      tasksPerMessage: 1,
      timeoutMs: 1_000,
      deadlineMs: null,
    };
    const stage = await startJob(sql, "planner", { jobId, run: 1, stage: seed });
    expect(stage).not.toBeNull();
    if (!stage) return;
    await sql`update stages set interruptions = ${maxStageInterruptions - 1}, lease_until = now() - interval '1 s'`;

    await interruptStages(sql); // and the process is gone
    expect(await takeStage(sql, "another", stage.stageId, stage.run)).toBeNull();
    expect(await interruptStages(sql)).toEqual({ freed: 0, exhausted: [jobId] });
  });
});

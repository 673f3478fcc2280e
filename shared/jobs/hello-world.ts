import * as v from "valibot";
import { defineJob } from "./define-job.ts";
import { defineTask } from "./define-task.ts";
import { TasksPerMessage } from "./tasks-per-message.ts";

const FailureRate = v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 0);

/** Retries are what `failure_rate` exercises, so they are quick, and many enough for a rate of a half to get through. */
const retry = { maxFailures: 10, backoffMs: 100, maxBackoffMs: 2_000 };

export const helloWorldGreeting = defineTask({
  type: "hello_world_greeting",
  params: v.object({
    task_number: v.pipe(v.number(), v.integer(), v.minValue(1)),
    name: v.string(),
    message: v.nullable(v.string()),
    failure_rate: FailureRate,
  }),
  result: v.object({
    task_number: v.number(),
    greeting: v.string(),
    message: v.nullable(v.string()),
    stage: v.literal("greeting"),
    timestamp: v.string(),
    success: v.literal(true),
  }),
  retry,
  timeoutMs: 30_000,
});

export const helloWorldReply = defineTask({
  type: "hello_world_reply",
  params: v.object({
    task_number: v.pipe(v.number(), v.integer(), v.minValue(1)),
    greeting: v.string(),
    failure_rate: FailureRate,
  }),
  result: v.object({
    task_number: v.number(),
    reply: v.string(),
    original_greeting: v.string(),
    stage: v.literal("reply"),
    timestamp: v.string(),
    success: v.literal(true),
  }),
  retry,
  timeoutMs: 30_000,
});

/** n greetings, then n replies that quote them, index by index. */
export const helloWorld = defineJob({
  type: "hello_world",
  description: "n greetings, then n replies, each quoting its greeting",
  params: v.object({
    n: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1_000_000)), 3),
    name: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(200)), "World"),
    message: v.optional(v.nullable(v.pipe(v.string(), v.maxLength(2000))), null),
    failure_rate: FailureRate,
    tasks_per_message: TasksPerMessage,
  }),
  stages: [
    {
      name: "greeting",
      task: helloWorldGreeting,
      tasksPerMessage: ({ tasks_per_message }) => tasks_per_message,
      *plan({ parameters }) {
        for (let index = 0; index < parameters.n; index++) {
          yield {
            task_number: index + 1,
            name: parameters.name,
            message: parameters.message,
            failure_rate: parameters.failure_rate,
          };
        }
      },
    },
    {
      name: "reply",
      task: helloWorldReply,
      tasksPerMessage: ({ tasks_per_message }) => tasks_per_message,
      async *plan({ parameters, earlier }) {
        const [greetings] = earlier;
        if (!greetings) return;
        for await (const { result } of greetings.outcomes()) {
          yield { task_number: result?.task_number, greeting: result?.greeting, failure_rate: parameters.failure_rate };
        }
      },
    },
  ],
  estimateTasks: ({ n }) => 2 * n,
  finalize({ parameters, earlier }) {
    const replies = earlier.at(-1)?.result;
    return { greetings: parameters.n, replies: replies?.successful_tasks ?? 0 };
  },
});

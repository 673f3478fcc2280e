import { helloWorldGreeting } from "../../../shared/jobs/hello-world.ts";
import { defineHandler } from "../task-handler.ts";
import { injectFailure } from "./injected-failure.ts";

export const handleHelloWorldGreeting = defineHandler(helloWorldGreeting, async (params, context) => {
  injectFailure(params.failure_rate, context);
  return {
    task_number: params.task_number,
    greeting: `Hello, ${params.name}! (task ${params.task_number})`,
    message: params.message,
    stage: "greeting",
    timestamp: new Date().toISOString(),
    success: true,
  };
});

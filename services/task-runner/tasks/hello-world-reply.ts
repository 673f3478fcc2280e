import { helloWorldReply } from "../../../shared/jobs/hello-world.ts";
import { defineHandler } from "../task-handler.ts";
import { injectFailure } from "./injected-failure.ts";

export const handleHelloWorldReply = defineHandler(helloWorldReply, async (params, context) => {
  injectFailure(params.failure_rate, context);
  return {
    task_number: params.task_number,
    reply: `Thank you for “${params.greeting}”`,
    original_greeting: params.greeting,
    stage: "reply",
    timestamp: new Date().toISOString(),
    success: true,
  };
});

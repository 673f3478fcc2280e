import type { Containers } from "../containers.ts";
import type { TaskHandler } from "../task-handler.ts";
import { createAnalyzeAndOrchestrate } from "./analyze-and-orchestrate.ts";
import { handleCreateFileIndex } from "./create-file-index.ts";
import { createExtractMetadata } from "./extract-metadata.ts";
import { handleHelloWorldGreeting } from "./hello-world-greeting.ts";
import { handleHelloWorldReply } from "./hello-world-reply.ts";
import { createSummarizeContainer } from "./summarize-container.ts";

/** The code of every task type, by its name. */
export function createTaskHandlers({ containers }: { containers: Containers }): ReadonlyMap<string, TaskHandler> {
  const handlers = [
    handleHelloWorldGreeting,
    handleHelloWorldReply,
    createSummarizeContainer(containers),
    createAnalyzeAndOrchestrate(containers),
    createExtractMetadata(containers),
    handleCreateFileIndex,
  ];
  return new Map(handlers.map((handler) => [handler.task.type, handler]));
}

import type { Assessment } from "../../../shared/jobs/assessment.ts";
import type { Judges } from "../assessment/judges.ts";
import type { Containers } from "../containers.ts";
import type { TaskHandler } from "../task-handler.ts";
import { createAnalyzeAndOrchestrate } from "./analyze-and-orchestrate.ts";
import { handleCreateFileIndex } from "./create-file-index.ts";
import { createAssessmentHandlers } from "./assessment.ts";
import { createExtractMetadata } from "./extract-metadata.ts";
import { handleHelloWorldGreeting } from "./hello-world-greeting.ts";
import { handleHelloWorldReply } from "./hello-world-reply.ts";
import { createSummarizeContainer } from "./summarize-container.ts";

/** The code of every task type, by its name. */
export function createTaskHandlers(
  { containers, assessment, judges }: { containers: Containers; assessment: Assessment; judges: Judges },
): ReadonlyMap<string, TaskHandler> {
  const handlers = [
    handleHelloWorldGreeting,
    handleHelloWorldReply,
    createSummarizeContainer(containers),
    createAnalyzeAndOrchestrate(containers),
    createExtractMetadata(containers),
    handleCreateFileIndex,
    ...createAssessmentHandlers(assessment, judges),
  ];
  return new Map(handlers.map((handler) => [handler.task.type, handler]));
}

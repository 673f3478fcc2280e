import type { JobDefinition } from "./define-job.ts";
import { helloWorld } from "./hello-world.ts";
import { listContainer } from "./list-container.ts";
import { summarizeContainer } from "./summarize-container.ts";

export const allJobs: readonly JobDefinition[] = [helloWorld, summarizeContainer, listContainer];

import { type Assessment, type AssessmentSettings, createAssessment } from "./assessment.ts";
import type { JobDefinition } from "./define-job.ts";
import { helloWorld } from "./hello-world.ts";
import { listContainer } from "./list-container.ts";
import { summarizeContainer } from "./summarize-container.ts";

export interface AllJobs {
  readonly jobs: readonly JobDefinition[];
  readonly assessment: Assessment;
}

/** Every job type. Each process that knows them is given the same settings. */
export function createAllJobs(settings: { readonly assessment: AssessmentSettings }): AllJobs {
  const assessment = createAssessment(settings.assessment);
  return { jobs: [helloWorld, summarizeContainer, listContainer, assessment.job], assessment };
}

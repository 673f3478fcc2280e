import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { defineHandler } from "../../services/task-runner/task-handler.ts";
import { PermanentError } from "../../shared/errors.ts";
import { defineJob } from "../../shared/jobs/define-job.ts";
import { defineTask } from "../../shared/jobs/define-task.ts";

const behaviours = ["complete", "fail-at-first", "fail-for-good", "break-contract", "die", "hang", "eat"] as const;
export type Behaviour = typeof behaviours[number];

/** A task that is as cruel to its process as its parameters say. */
const suffer = defineTask({
  type: "suffer",
  params: v.object({ number: v.number(), behaviour: v.picklist(behaviours) }),
  result: v.object({ number: v.number() }),
  retry: { maxFailures: 2, backoffMs: 10, maxBackoffMs: 20 },
  timeoutMs: 20_000,
});

export const handleSuffer = defineHandler(suffer, async ({ number, behaviour }, { attempt }) => {
  switch (behaviour) {
    case "complete":
      break;
    case "fail-at-first":
      if (attempt === 1) throw new Error(`task ${number} fails at first`);
      break;
    case "fail-for-good":
      throw new PermanentError("task-failed", `task ${number} can't succeed`);
    case "break-contract":
      return { number: "none" } as never;
    case "die":
      await sleep(50);
      process.kill(process.pid, "SIGKILL");
      await sleep(60_000);
      break;
    case "hang":
      await sleep(50);
      for (;;); // nothing of the process turns any more
    case "eat": {
      await sleep(50);
      const eaten: unknown[] = [];
      for (;;) eaten.push(Array.from({ length: 10_000 }, (_, index) => ({ index })));
    }
  }
  return { number };
});

const Params = v.object({ behaviours: v.array(v.picklist(behaviours)) });

function cruelJob(type: string, tasksPerMessage: number) {
  return defineJob({
    type,
    description: "suffers",
    params: Params,
    stages: [{
      name: "suffer",
      task: suffer,
      tasksPerMessage,
      plan: ({ parameters }: { parameters: v.InferOutput<typeof Params> }) =>
        parameters.behaviours.map((behaviour, number) => ({ number, behaviour })),
      tolerate: { percent: 100 },
    }],
  });
}

export const cruelJobs = [cruelJob("cruel", 1), cruelJob("cruel_in_company", 5)];

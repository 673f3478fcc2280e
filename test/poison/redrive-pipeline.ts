import * as v from "valibot";
import { defineHandler } from "../../services/task-runner/task-handler.ts";
import type { TaskHandler } from "../../services/task-runner/task-handler.ts";
import { defineJob } from "../../shared/jobs/define-job.ts";
import { defineTask } from "../../shared/jobs/define-task.ts";
import type { Sql } from "../../shared/store/database.ts";

const double = defineTask({
  type: "double",
  params: v.object({ value: v.number() }),
  result: v.object({ doubled: v.number() }),
  retry: { maxFailures: 1 },
  timeoutMs: 10_000,
});

const total = defineTask({
  type: "total",
  params: v.object({ values: v.array(v.number()) }),
  result: v.object({ sum: v.number() }),
  retry: { maxFailures: 1 },
  timeoutMs: 10_000,
});

/** Doubles 0 to n − 1, then adds up what was doubled. Of the first stage, `tolerated` may fail. */
export const doubling = defineJob({
  type: "doubling",
  description: "doubles numbers and adds them up",
  params: v.object({ n: v.number(), tolerated: v.optional(v.number(), 0) }),
  stages: [
    {
      name: "double",
      task: double,
      tolerate: { percent: 100 },
      *plan({ parameters }) {
        for (let value = 0; value < parameters.n; value++) yield { value };
      },
      decide: (result, { parameters }) =>
        result.failed_tasks > (parameters as { tolerated: number }).tolerated
          ? { action: "fail_job", reason: `${result.failed_tasks} failed` }
          : { action: "advance" },
    },
    {
      name: "total",
      task: total,
      async *plan({ earlier }) {
        const values: number[] = [];
        for await (const { result } of earlier[0]?.outcomes() ?? []) if (result) values.push(Number(result.doubled));
        yield { values };
      },
      async reduce({ outcomes }) {
        let sum = 0;
        for await (const { result } of outcomes()) sum += Number(result?.sum ?? 0);
        return { sum };
      },
    },
  ],
});

/** The code of these tasks, with a fault that can be mended: what it throws on. Counts how often each value was doubled. */
export interface MendableHandlers {
  readonly handlers: readonly TaskHandler[];
  readonly doubled: ReadonlyMap<number, number>;
  breakFor(isBroken: (value: number) => boolean): void;
  mend(): void;
}

export function createMendableHandlers(): MendableHandlers {
  let isBroken: (value: number) => boolean = () => false;
  const doubled = new Map<number, number>();
  return {
    doubled,
    handlers: [
      defineHandler(double, async ({ value }) => {
        if (isBroken(value)) throw new Error(`can't double ${value}`);
        doubled.set(value, (doubled.get(value) ?? 0) + 1);
        return { doubled: 2 * value };
      }),
      defineHandler(total, async ({ values }) => ({ sum: values.reduce((sum, value) => sum + value, 0) })),
    ],
    breakFor(broken) {
      isBroken = broken;
    },
    mend() {
      isBroken = () => false;
    },
  };
}

/** Every value doubled, in the stage that was kept: index by index, from the job's parameters alone. */
export async function readDoubled(sql: Sql, jobId: string): Promise<readonly (number | null)[]> {
  const rows = await sql<{ doubled: number | null }[]>`
    select (tasks.result ->> 'doubled')::int as doubled from tasks join stages on stages.id = stage_id
    where job_id = ${jobId} and number = 1 and discarded_at is null order by index`;
  return rows.map(({ doubled }) => doubled);
}

export const expectedDoubles = (n: number) => Array.from({ length: n }, (_, value) => 2 * value);
/** 2 · (0 + 1 + … + (n − 1)) */
export const expectedSum = (n: number) => n * (n - 1);

import type { TransportName } from "../../shared/transports.ts";

/** Each run goes over one after the other. */
export const pipelines = ["storage_queue", "service_bus"] as const satisfies readonly TransportName[];
export type Pipeline = (typeof pipelines)[number];

/** One job of the matrix. */
export interface Work {
  readonly jobType: "hello_world" | "list_container";
  /** Greetings, or files. */
  readonly size: number;
  readonly tasksPerMessage: number;
}

const sizes = { hello_world: [100, 500, 1_000], list_container: [100, 1_000, 10_000] } as const;
const tasksPerMessage = [1, 10] as const;

export function createMatrix({ quick, only }: { quick: boolean; only?: Work["jobType"] | undefined }): readonly Work[] {
  const jobTypes = (["hello_world", "list_container"] as const).filter((jobType) => only === undefined || jobType === only);
  return jobTypes.flatMap((jobType) =>
    (quick ? sizes[jobType].slice(0, 1) : sizes[jobType]).flatMap((size) =>
      tasksPerMessage.map((count) => ({ jobType, size, tasksPerMessage: count }))
    )
  );
}

/** `hello_world` replies to each greeting; `list_container` has a task that lists, and one for each file. */
export function countTasks({ jobType, size }: Work): number {
  return jobType === "hello_world" ? 2 * size : size + 1;
}

export function nameWork({ jobType, size }: Work): string {
  const number = size.toLocaleString("en");
  return jobType === "hello_world" ? `hello_world, n = ${number}` : `list_container, ${number} files`;
}

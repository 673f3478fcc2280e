/** A broker, or another place where things must be before jobs can run. */
export interface Target {
  /** `service_bus`, `storage_queue`, `bullmq`, or `blob_storage`. */
  readonly name: string;
  /** Where it is: host and the like, no secret. */
  readonly place: string;
  /** What must be there, group after group. Rejects if nothing can be done there. */
  open(): Promise<readonly (readonly Resource[])[]>;
  /** What an error of this target means, where that is more than its text; without secrets. */
  explain(error: Error): string | undefined;
  close(): Promise<void>;
}

/** A queue, or whatever stands for queues where they come into being by themselves. */
export interface Resource {
  readonly name: string;
  /** How it differs from what is wanted; undefined if it isn't there. */
  inspect(): Promise<readonly Difference[] | undefined>;
  /** Harmless if it is there, and if several do it at once. */
  create?(): Promise<void>;
  /** Sets whatever differs and can be changed. */
  update?(): Promise<void>;
}

/** A setting that isn't as wanted. */
export interface Difference {
  readonly setting: string;
  readonly wanted: string;
  readonly found: string;
  readonly remedy: Remedy;
}

/** How it can be put right: by `--update`, only by a new queue, or in the broker's own configuration. */
export type Remedy = "update" | "recreate" | "configure";

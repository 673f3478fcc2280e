/** What each role receives, reads and sends (docs/architecture.md, section 2). Network policies, access rights and tests are made from this. */
export interface Role {
  readonly receives: readonly QueueKind[];
  readonly sends: readonly QueueKind[];
  readonly writes: readonly Table[];
  readonly serves: "public" | "probes";
  readonly blobs: boolean;
}
export type QueueKind = "jobs" | "stages" | "tasks" | "poison";
export type Table =
  | "jobs"
  | "stages"
  | "tasks"
  | "outbox"
  | "runners"
  | "events"
  | "leases"
  | "idempotency_keys"
  | "routing_rules"
  | "poison_messages"
  | "poison_groups"
  | "alerts"
  | "reconciliation_runs"
  | "reconciliation_findings"
  | "redrives"
  | "redrive_items";

export const roles = {
  api: {
    receives: [],
    sends: ["jobs"],
    writes: [
      "jobs",
      "outbox",
      "events",
      "leases",
      "idempotency_keys",
      "routing_rules",
      "redrives",
      "redrive_items",
      "poison_messages",
      "poison_groups",
      "reconciliation_runs",
    ],
    serves: "public",
    blobs: true,
  },
  orchestrator: {
    receives: ["jobs", "stages"],
    sends: ["jobs", "stages", "tasks"],
    writes: ["jobs", "stages", "tasks", "outbox", "events", "leases", "runners", "poison_messages"],
    serves: "probes",
    blobs: true,
  },
  "task-runner": {
    receives: ["tasks"],
    sends: ["stages"],
    writes: ["tasks", "stages", "outbox", "runners", "events", "poison_messages"],
    serves: "probes",
    blobs: true,
  },
  "poison-handler": {
    receives: ["poison"],
    sends: [],
    writes: [
      "poison_messages",
      "poison_groups",
      "alerts",
      "redrives",
      "redrive_items",
      "jobs",
      "stages",
      "tasks",
      "outbox",
      "events",
      "leases",
      "reconciliation_runs",
      "reconciliation_findings",
    ],
    serves: "probes",
    blobs: true,
  },
} as const satisfies Record<string, Role>;
export type RoleName = keyof typeof roles;

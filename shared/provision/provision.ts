import { setTimeout as sleep } from "node:timers/promises";
import { withTimeLimit } from "../time-limit.ts";
import { describeCause } from "./cause.ts";
import type { Difference, Resource, Target } from "./target.ts";

/** `check` changes nothing; `create` makes what is missing; `update` also sets what differs and can be changed. */
export type Mode = "check" | "create" | "update";

/** How one resource was found and left. */
export interface Finding {
  readonly target: string;
  readonly resource: string;
  readonly outcome: Outcome;
  /** How it still differs. */
  readonly differences: readonly Difference[];
  /** What was set. */
  readonly updated: readonly Difference[];
  /** Why it failed; one line. */
  readonly cause?: string;
}
export type Outcome = "as wanted" | "created" | "updated" | "missing" | "different" | "failed";

/** Of one call, retries of the SDK included. */
const callMs = 20_000;
/** How long something may take to be there, once another process is creating it. */
const appearanceMs = 10_000;
const lookAgainMs = 250;

/** Targets side by side; one that fails doesn't keep the others. Never rejects: what failed is in the findings. */
export async function provision(targets: readonly Target[], mode: Mode): Promise<readonly Finding[]> {
  return (await Promise.all(targets.map((target) => provisionTarget(target, mode)))).flat();
}

async function provisionTarget(target: Target, mode: Mode): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  try {
    for (const group of await withTimeLimit(target.open(), callMs)) {
      findings.push(...await Promise.all(group.map((resource) => provisionResource(target, resource, mode))));
    }
  } catch (error) {
    findings.push(failed(target, "everything", error));
  } finally {
    await withTimeLimit(target.close(), callMs).catch(() => {}); // the findings count
  }
  return findings;
}

async function provisionResource(target: Target, resource: Resource, mode: Mode): Promise<Finding> {
  const found = { target: target.name, resource: resource.name, differences: [], updated: [] };
  try {
    const before = await withTimeLimit(resource.inspect(), callMs);
    if (!before && (mode === "check" || !resource.create)) return { ...found, outcome: "missing" };
    const differences = before ?? await create(resource);
    const created = before === undefined;
    if (mode !== "update" || !resource.update || !differences.some(({ remedy }) => remedy === "update")) {
      const outcome = differences.length > 0 ? "different" : created ? "created" : "as wanted";
      return { ...found, outcome, differences };
    }
    await withTimeLimit(resource.update(), callMs);
    const after = await withTimeLimit(resource.inspect(), callMs);
    if (!after) return { ...found, outcome: "missing" };
    const updated = differences.filter(({ setting }) => !after.some((left) => left.setting === setting));
    return { ...found, outcome: after.length > 0 ? "different" : "updated", differences: after, updated };
  } catch (error) {
    return failed(target, resource.name, error);
  }
}

/** Its differences once it's there: another process that was faster may have made it otherwise. */
async function create(resource: Resource): Promise<readonly Difference[]> {
  if (resource.create) await withTimeLimit(resource.create(), callMs);
  for (const giveUpAt = performance.now() + appearanceMs;;) {
    const differences = await withTimeLimit(resource.inspect(), callMs);
    if (differences) return differences;
    if (performance.now() > giveUpAt) {
      throw new Error(`${resource.name} was created, or is being created by another process, but isn't there`);
    }
    await sleep(lookAgainMs);
  }
}

function failed(target: Target, resource: string, error: unknown): Finding {
  return {
    target: target.name,
    resource,
    outcome: "failed",
    differences: [],
    updated: [],
    cause: describeCause(error, target),
  };
}

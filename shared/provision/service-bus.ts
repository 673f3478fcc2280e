import type { QueueProperties, ServiceBusAdministrationClient } from "@azure/service-bus";
import { PermanentError } from "../errors.ts";
import { createServiceBusAdminClient, hostOfAccount, type ServiceBusAccount } from "../transport/service-bus-account.ts";
import { createQueue, queueDefaults } from "../transport/service-bus-queues.ts";
import { firstLine, statusOf } from "./cause.ts";
import type { Difference, Remedy, Resource, Target } from "./target.ts";

/** Of a namespace. Premium is as Standard here. */
export const tiers = ["basic", "standard"] as const;
export type Tier = (typeof tiers)[number];

/** What Azure writes where there is no limit: the longest duration of .NET. */
const forever = "P10675199DT2H48M5.4775807S";

export interface ServiceBusQueues {
  readonly tier: Tier;
  readonly queues: readonly string[];
  /** What gets the dead letters of all, unless the tier is Basic. */
  readonly poisonQueue: string;
}

/** The queues of a namespace. Needs the right to manage. */
export function createServiceBusTarget(account: ServiceBusAccount, { tier, queues, poisonQueue }: ServiceBusQueues): Target {
  const place = hostOfAccount(account);
  const client = createServiceBusAdminClient(account);
  const work = (forwardDeadLettersTo?: string) =>
    queues.map((name) => createQueueResource(client, { name, forwardDeadLettersTo, tier }));
  return {
    name: "service_bus",
    place,
    async open() {
      if (tier === "basic") return [work()];
      if (await isBasic(client)) {
        throw new PermanentError(
          "invalid-configuration",
          "the namespace is of the tier Basic, which can't forward dead letters: use --tier basic",
        );
      }
      // First what is forwarded to: the others can't be made without it.
      return [
        [createQueueResource(client, { name: poisonQueue, forwardDeadLettersTo: undefined, tier })],
        work(poisonQueue),
      ];
    },
    explain,
    async close() {},
  };
}

/** An emulator may not know its tier. */
async function isBasic(client: ServiceBusAdministrationClient): Promise<boolean> {
  try {
    return (await client.getNamespaceProperties()).messagingSku === "Basic";
  } catch (error) {
    if (error instanceof Error && statusOf(error) === 404) return false;
    throw error;
  }
}

interface Wanted {
  readonly name: string;
  readonly forwardDeadLettersTo: string | undefined;
  readonly tier: Tier;
}

function createQueueResource(client: ServiceBusAdministrationClient, wanted: Wanted): Resource {
  const { name, forwardDeadLettersTo } = wanted;
  return {
    name,
    async inspect() {
      const found = await client.getQueue(name).catch((error: Error) => {
        if (statusOf(error) === 404) return undefined;
        throw error;
      });
      return found && listDifferences(found, forwardDeadLettersTo);
    },
    async create() {
      const forward = forwardDeadLettersTo === undefined ? {} : { forwardDeadLetteredMessagesTo: forwardDeadLettersTo };
      await createQueue(client, name, { ...queueDefaults, ...forward });
    },
    async update() {
      await client.updateQueue(changed(await client.getQueue(name), wanted));
    },
  };
}

interface Setting {
  readonly name: string;
  readonly wanted: unknown;
  read(queue: QueueProperties): unknown;
  readonly remedy: Remedy;
}

/** What is set when a queue is made, and what would keep it from working if somebody had set it. */
function listSettings(forwardDeadLettersTo: string | undefined): readonly Setting[] {
  const created = Object.entries(queueDefaults).map(([name, wanted]): Setting => ({
    name,
    wanted,
    read: (queue) => queue[name as keyof typeof queueDefaults],
    remedy: "update",
  }));
  return [
    ...created,
    {
      name: "forwardDeadLetteredMessagesTo",
      wanted: forwardDeadLettersTo ?? "none",
      read: (queue) => queueOf(queue.forwardDeadLetteredMessagesTo),
      remedy: "update",
    },
    { name: "enablePartitioning", wanted: false, read: (queue) => queue.enablePartitioning, remedy: "recreate" },
    { name: "requiresDuplicateDetection", wanted: false, read: (queue) => queue.requiresDuplicateDetection, remedy: "recreate" },
    { name: "requiresSession", wanted: false, read: (queue) => queue.requiresSession, remedy: "recreate" },
    { name: "forwardTo", wanted: "none", read: (queue) => queueOf(queue.forwardTo), remedy: "update" },
    { name: "status", wanted: "Active", read: (queue) => queue.status, remedy: "update" },
    {
      name: "autoDeleteOnIdle",
      wanted: "unlimited",
      read: ({ autoDeleteOnIdle = forever }) => tell(autoDeleteOnIdle),
      remedy: "update",
    },
  ];
}

function listDifferences(queue: QueueProperties, forwardDeadLettersTo: string | undefined): readonly Difference[] {
  return listSettings(forwardDeadLettersTo).flatMap(({ name, wanted, read, remedy }) => {
    const found = read(queue);
    return found === wanted ? [] : [{ setting: name, wanted: String(wanted), found: tell(found), remedy }];
  });
}

type QueueUpdate = Parameters<ServiceBusAdministrationClient["updateQueue"]>[0];

/** The whole queue as it should be, since an update says everything; what can't be changed stays. */
function changed(queue: QueueUpdate, { forwardDeadLettersTo, tier }: Wanted): QueueUpdate {
  const update: QueueUpdate = { ...queue, ...queueDefaults, status: "Active", autoDeleteOnIdle: forever };
  delete update.forwardTo;
  delete update.forwardDeadLetteredMessagesTo;
  if (forwardDeadLettersTo !== undefined) update.forwardDeadLetteredMessagesTo = forwardDeadLettersTo;
  if (tier !== "basic") return update;
  // Basic refuses these by their names, whatever their values.
  const { autoDeleteOnIdle: _1, requiresDuplicateDetection: _2, duplicateDetectionHistoryTimeWindow: _3, ...basic } = update;
  return basic as QueueUpdate;
}

function tell(value: unknown): string {
  return value === forever ? "unlimited" : String(value);
}

/** It is told as a URL, in lower case. */
function queueOf(url: string | undefined): string {
  return url ? url.replace(/^\w+:\/\/[^/]*\//, "").replace(/\/+$/, "").toLowerCase() : "none";
}

function explain(error: Error): string | undefined {
  const said = firstLine(error);
  const status = statusOf(error);
  if (status === 401 && /Signature|Audience|Expired|Malformed/i.test(said)) {
    return `the key, or the name of the key, is wrong for this namespace (401, ${said})`;
  }
  if (status === 401 || (status === 403 && !/quota/i.test(said))) {
    return `the right to manage is missing: a key with Manage, or the role Azure Service Bus Data Owner (${status}, ${said})`;
  }
  if (status === 400 && /'Basic' tier/.test(said)) return `the tier Basic can't do that: use --tier basic (${status}, ${said})`;
  return status === undefined ? undefined : `Service Bus answered ${status} (${said})`;
}

import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, expect, test } from "vitest";
import {
  type QueueSettings,
  type ServiceBusBroker,
  type ServiceBusBrokerOptions,
  startServiceBusBroker,
} from "../../dev/service-bus-broker/start.ts";
import { type Finding, type Mode, provision } from "../../shared/provision/provision.ts";
import { createServiceBusTarget, type Tier } from "../../shared/provision/service-bus.ts";
import { createServiceBusAdminClient } from "../../shared/transport/service-bus-account.ts";
import { openServiceBusTransport } from "../../shared/transport/service-bus.ts";
import type { LockedMessage, Transport } from "../../shared/transport/transport.ts";
import { startRewritingProxy } from "./rewriting-proxy.ts";

const keys = {
  manager: { key: "manager-secret", rights: ["Manage"] },
  worker: { key: "worker-secret", rights: ["Send", "Listen"] },
} as const;
const queues = ["sb-jobs", "sb-stages", "sb-tasks", "scoring-jobs"];

const ends: (() => Promise<unknown>)[] = [];
const end = async () => {
  for (const each of ends.splice(0).reverse()) await each();
};
afterEach(end);
afterAll(end);

async function startBroker(options: ServiceBusBrokerOptions = {}): Promise<ServiceBusBroker> {
  const broker = await startServiceBusBroker({ keys, ...options });
  ends.push(() => broker.stop());
  return broker;
}

type Account = Pick<ServiceBusBroker, "connectionString" | "adminConnectionString">;

function run(
  account: Account,
  mode: Mode,
  options: { tier?: Tier; queues?: readonly string[] } = {},
): Promise<readonly Finding[]> {
  return provision([
    createServiceBusTarget(account, { tier: "standard", queues, poisonQueue: "sb-poison", ...options }),
  ], mode);
}

/** The outcome of each queue. */
function outcomes(findings: readonly Finding[]): Record<string, string> {
  return Object.fromEntries(findings.map(({ resource, outcome }) => [resource, outcome]));
}

function all(outcome: string): Record<string, string> {
  return Object.fromEntries(["sb-poison", ...queues].map((queue) => [queue, outcome]));
}

/** Every queue as Azure describes it, with the time of its last change. */
async function describeQueues(account: Account): Promise<readonly Record<string, unknown>[]> {
  const client = createServiceBusAdminClient(account);
  const described = [];
  for await (const queue of client.listQueues()) {
    const { modifiedAt, createdAt } = await client.getQueueRuntimeProperties(queue.name);
    described.push({ ...queue, modifiedAt, createdAt });
  }
  return described;
}

async function receiveOne(transport: Transport, queue: string): Promise<LockedMessage> {
  for (const signal = AbortSignal.timeout(10_000); !signal.aborted;) {
    const [message] = await transport.receive(queue, { max: 1, signal });
    if (message) return message;
  }
  throw new Error(`nothing came from ${queue}`);
}

test("what is missing is created with the settings of docs/provisioning.md, and a second run changes nothing", async () => {
  const broker = await startBroker();
  expect(outcomes(await run(broker, "create"))).toEqual(all("created"));
  const created = await describeQueues(broker);
  expect(created.map(({ name }) => name)).toEqual(["sb-jobs", "sb-poison", "sb-stages", "sb-tasks", "scoring-jobs"]);
  for (const queue of created) {
    expect(queue).toMatchObject({
      lockDuration: "PT5M",
      maxDeliveryCount: 10,
      defaultMessageTimeToLive: "P14D",
      deadLetteringOnMessageExpiration: true,
      maxSizeInMegabytes: 1_024,
      enablePartitioning: false,
      requiresDuplicateDetection: false,
      forwardDeadLetteredMessagesTo: queue.name === "sb-poison" ? undefined : `sb://localhost:${broker.adminPort}/sb-poison`,
    });
  }
  for (const mode of ["create", "check", "update"] as const) {
    expect(outcomes(await run(broker, mode))).toEqual(all("as wanted"));
  }
  expect(await describeQueues(broker)).toEqual(created);
});

test("a check creates nothing", async () => {
  const broker = await startBroker();
  expect(outcomes(await run(broker, "check"))).toEqual(all("missing"));
  expect(await describeQueues(broker)).toEqual([]);
});

test("five at once create each queue once, and none of them fails", async () => {
  const broker = await startBroker();
  const runs = await Promise.all(Array.from({ length: 5 }, () => run(broker, "create")));
  for (const findings of runs) {
    for (const { outcome, differences } of findings) {
      expect(["created", "as wanted"]).toContain(outcome);
      expect(differences).toEqual([]);
    }
  }
  expect(await describeQueues(broker)).toHaveLength(5);
});

const asWanted: Partial<QueueSettings> = {
  lockDurationMs: 5 * 60_000,
  maxDeliveryCount: 10,
  defaultMessageTimeToLiveMs: 14 * 86_400_000,
  deadLetteringOnMessageExpiration: true,
  maxSizeInMegabytes: 1_024,
  forwardDeadLetteredMessagesTo: "sb-poison",
};
const { forwardDeadLetteredMessagesTo: _, ...poisonAsWanted } = asWanted;
const differing: readonly (readonly [string, Partial<QueueSettings>, string, string, string])[] = [
  ["lockDuration", { lockDurationMs: 60_000 }, "PT5M", "PT1M", "update"],
  ["maxDeliveryCount", { maxDeliveryCount: 3 }, "10", "3", "update"],
  ["defaultMessageTimeToLive", { defaultMessageTimeToLiveMs: 3_600_000 }, "P14D", "PT1H", "update"],
  ["defaultMessageTimeToLive", { defaultMessageTimeToLiveMs: Infinity }, "P14D", "unlimited", "update"],
  ["deadLetteringOnMessageExpiration", { deadLetteringOnMessageExpiration: false }, "true", "false", "update"],
  ["maxSizeInMegabytes", { maxSizeInMegabytes: 5_120 }, "1024", "5120", "update"],
  ["forwardDeadLetteredMessagesTo", { forwardDeadLetteredMessagesTo: "elsewhere" }, "sb-poison", "elsewhere", "update"],
  ["forwardTo", { forwardTo: "elsewhere" }, "none", "elsewhere", "update"],
  ["status", { status: "SendDisabled" }, "Active", "SendDisabled", "update"],
  ["autoDeleteOnIdle", { autoDeleteOnIdleMs: 600_000 }, "unlimited", "PT10M", "update"],
  ["requiresDuplicateDetection", { requiresDuplicateDetection: true }, "false", "true", "recreate"],
];

test.each(differing)(
  "%s that differs (%o) is found, and is all that is found",
  async (setting, settings, wanted, found, remedy) => {
    const broker = await startBroker({
      queues: { "sb-poison": poisonAsWanted, elsewhere: {}, "sb-tasks": { ...asWanted, ...settings } },
    });
    const before = await describeQueues(broker);
    for (const mode of ["check", "create"] as const) {
      const findings = await run(broker, mode, { queues: ["sb-tasks"] });
      expect(findings).toEqual([
        { target: "service_bus", resource: "sb-poison", outcome: "as wanted", differences: [], updated: [] },
        {
          target: "service_bus",
          resource: "sb-tasks",
          outcome: "different",
          differences: [{ setting, wanted, found, remedy }],
          updated: [],
        },
      ]);
    }
    expect(await describeQueues(broker)).toEqual(before);

    const [, updated] = await run(broker, "update", { queues: ["sb-tasks"] });
    const difference = { setting, wanted, found, remedy };
    expect(updated).toMatchObject(
      remedy === "update"
        ? { outcome: "updated", updated: [difference], differences: [] }
        : { outcome: "different", updated: [], differences: [difference] },
    );
    expect(outcomes(await run(broker, "check", { queues: ["sb-tasks"] }))["sb-tasks"]).toBe(
      remedy === "update" ? "as wanted" : "different",
    );
  },
);

test("a dead-letter forward that is missing is found", async () => {
  const broker = await startBroker({ queues: { "sb-poison": poisonAsWanted, "sb-tasks": poisonAsWanted } });
  const [, tasks] = await run(broker, "check", { queues: ["sb-tasks"] });
  const differences = [{ setting: "forwardDeadLetteredMessagesTo", wanted: "sb-poison", found: "none", remedy: "update" }];
  expect(tasks).toMatchObject({ outcome: "different", differences });
});

test.each([["enablePartitioning", "EnablePartitioning"], ["requiresSession", "RequiresSession"]])(
  "%s, which the development broker hasn't got, is found in Azure's description",
  async (setting, element) => {
    const broker = await startBroker({ queues: { "sb-poison": poisonAsWanted, "sb-tasks": asWanted } });
    const proxy = await startRewritingProxy(
      broker.adminPort,
      (text, path) => path.startsWith("/sb-tasks") ? text.replace(`<${element}>false`, `<${element}>true`) : text,
    );
    ends.push(() => proxy.stop());
    const adminConnectionString = broker.adminConnectionString.replace(`:${broker.adminPort}`, `:${proxy.port}`);
    const [, tasks] = await run({ ...broker, adminConnectionString }, "check", { queues: ["sb-tasks"] });
    const differences = [{ setting, wanted: "false", found: "true", remedy: "recreate" }];
    expect(tasks).toMatchObject({ outcome: "different", differences });
  },
);

test("an update sets all that can be set, and says what can't", async () => {
  const broker = await startBroker({
    queues: { "sb-tasks": { maxDeliveryCount: 3, requiresDuplicateDetection: true, userMetadata: "theirs" } },
  });
  const [, tasks] = await run(broker, "update", { queues: ["sb-tasks"] });
  expect(tasks?.outcome).toBe("different");
  expect(tasks?.differences.map(({ setting }) => setting)).toEqual(["requiresDuplicateDetection"]);
  expect(tasks?.updated.map(({ setting }) => setting)).toEqual([
    "lockDuration",
    "maxDeliveryCount",
    "defaultMessageTimeToLive",
    "deadLetteringOnMessageExpiration",
    "forwardDeadLetteredMessagesTo",
  ]);
  const [, described] = await describeQueues(broker);
  expect(described).toMatchObject({ name: "sb-tasks", userMetadata: "theirs", requiresDuplicateDetection: true });
});

test("a dead letter arrives in sb-poison, and purging the queue it came from still works", async () => {
  const broker = await startBroker();
  await run(broker, "create");
  const transport = openServiceBusTransport(broker);
  ends.push(() => transport.close());
  for (const queue of queues) {
    await transport.send(queue, [{ messageId: `of-${queue}`, body: `{"from":"${queue}"}` }]);
    await (await receiveOne(transport, queue)).moveToDeadLetters("task-failed", "as a test wants it");
    const poison = await receiveOne(transport, "sb-poison");
    expect(poison).toMatchObject({
      messageId: `of-${queue}`,
      body: `{"from":"${queue}"}`,
      deadLettered: { reason: "task-failed", description: "as a test wants it" },
    });
    await poison.complete();
    await transport.purge(queue);
  }
});

test("on Basic nothing is forwarded, everything else is the same, and the dead letters stay with their queue", async () => {
  const broker = await startBroker({ tier: "basic", queues: { "sb-stages": { maxDeliveryCount: 3 } } });
  const findings = await run(broker, "update", { tier: "basic" });
  expect(outcomes(findings)).toEqual({
    "sb-jobs": "created",
    "sb-stages": "updated",
    "sb-tasks": "created",
    "scoring-jobs": "created",
  });
  for (const queue of await describeQueues(broker)) {
    expect(queue).toMatchObject({ lockDuration: "PT5M", maxDeliveryCount: 10, defaultMessageTimeToLive: "P14D" });
    expect(queue).toMatchObject({ forwardDeadLetteredMessagesTo: undefined });
  }
  expect(new Set(Object.values(outcomes(await run(broker, "check", { tier: "basic" }))))).toEqual(new Set(["as wanted"]));
  const transport = openServiceBusTransport(broker);
  ends.push(() => transport.close());
  await transport.send("sb-tasks", [{ messageId: "a", body: "{}" }]);
  await (await receiveOne(transport, "sb-tasks")).moveToDeadLetters("task-failed", "as a test wants it");
  expect(await transport.counts("sb-tasks")).toEqual({ active: 0, deadLettered: 1 });
});

test("what Basic hasn't got isn't even named to it, neither in a new queue nor in an update", async () => {
  const broker = await startBroker({ tier: "basic", queues: { "sb-jobs": { maxDeliveryCount: 3 } } });
  const proxy = await startRewritingProxy(broker.adminPort, (text) => text);
  ends.push(() => proxy.stop());
  const adminConnectionString = broker.adminConnectionString.replace(`:${broker.adminPort}`, `:${proxy.port}`);
  const findings = await run({ ...broker, adminConnectionString }, "update", { tier: "basic", queues: ["sb-jobs", "sb-tasks"] });
  expect(outcomes(findings)).toEqual({ "sb-jobs": "updated", "sb-tasks": "created" });
  expect(proxy.bodies).toHaveLength(2);
  for (const body of proxy.bodies) expect(body).not.toMatch(/AutoDeleteOnIdle|Duplicate|Forward/);
});

test("--tier standard on a Basic namespace creates nothing, and says which option to use", async () => {
  const broker = await startBroker({ tier: "basic" });
  const findings = await run(broker, "create");
  expect(findings).toMatchObject([{ outcome: "failed", cause: expect.stringContaining("use --tier basic") }]);
  expect(await describeQueues(broker)).toEqual([]);
});

test("a forward that only the broker refuses is named by its queue, and the others go on", async () => {
  // A namespace that doesn't tell its tier, as an emulator may.
  const broker = await startBroker({ tier: "basic" });
  const proxy = await startRewritingProxy(
    broker.adminPort,
    (text) => text.replace("<MessagingSKU>Basic", "<MessagingSKU>Standard"),
  );
  ends.push(() => proxy.stop());
  const adminConnectionString = broker.adminConnectionString.replace(`:${broker.adminPort}`, `:${proxy.port}`);
  const findings = await run({ ...broker, adminConnectionString }, "create", { queues: ["sb-jobs", "sb-tasks"] });
  expect(outcomes(findings)).toEqual({ "sb-poison": "created", "sb-jobs": "failed", "sb-tasks": "failed" });
  expect(findings[1]?.cause).toContain("the tier Basic can't do that: use --tier basic");
});

test.each([
  ["a wrong key", "manager-secret", "guess", /the key, or the name of the key, is wrong for this namespace \(401/],
  ["an unknown name of a key", "Name=manager", "Name=nobody", /the key, or the name of the key, is wrong/],
])("%s is named, in one line and without the key", async (_, right, wrong, cause) => {
  const broker = await startBroker();
  const adminConnectionString = broker.adminConnectionString.replace(right, wrong);
  const [finding, ...others] = await run({ ...broker, adminConnectionString }, "create");
  expect(others).toEqual([]);
  expect(finding?.cause).toMatch(cause);
  expect(finding?.cause).toContain(`localhost:${broker.adminPort}`);
  expect(finding?.cause).not.toMatch(/\n|manager-secret|guess/);
});

test("a key without the right to manage is named as such", async () => {
  const broker = await startBroker();
  const adminConnectionString = broker.connectionStringOf("worker").replace(`:${broker.port}`, `:${broker.adminPort}`);
  const [finding, ...others] = await run({ connectionString: broker.connectionString, adminConnectionString }, "create");
  expect(others).toEqual([]);
  expect(finding?.cause).toMatch(/the right to manage is missing: a key with Manage, or the role Azure Service Bus Data Owner/);
  expect(finding?.cause).not.toContain("worker-secret");
});

test("a namespace that isn't there, and one that is away, are named with their host", async () => {
  const broker = await startBroker();
  const away = { ...broker };
  await broker.stop();
  ends.length = 0;
  expect(await run(away, "create")).toMatchObject([{
    outcome: "failed",
    cause: expect.stringMatching(/^localhost:\d+: the connection was refused.*\(ECONNREFUSED\)$/),
  }]);
  const connectionString = "Endpoint=sb://no-such-namespace.invalid;SharedAccessKeyName=a;SharedAccessKey=b";
  expect(await run({ connectionString, adminConnectionString: connectionString }, "create")).toMatchObject([{
    outcome: "failed",
    cause: expect.stringMatching(/^no-such-namespace\.invalid: no such name in DNS.*\((ENOTFOUND|EAI_AGAIN)\)$/),
  }]);
});

test("a queue that another process is just creating is waited for", async () => {
  const broker = await startBroker({ queues: { "sb-poison": poisonAsWanted } });
  const client = createServiceBusAdminClient(broker);
  // Until it is there, Azure answers 409 to those who create it and 404 to those who look.
  let asked = 0;
  const target = createServiceBusTarget(broker, { tier: "standard", queues: [], poisonQueue: "sb-poison" });
  const slow = {
    ...target,
    open: async () => [[{
      name: "sb-tasks",
      inspect: async () => ++asked > 2 && await client.queueExists("sb-tasks") ? [] : undefined,
      create: async () => void sleep(500).then(() => client.createQueue("sb-tasks")),
    }]],
  };
  expect(await provision([slow], "create")).toMatchObject([{ resource: "sb-tasks", outcome: "created" }]);
});

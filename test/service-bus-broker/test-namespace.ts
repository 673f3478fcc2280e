import {
  type CreateQueueOptions,
  ServiceBusClient,
  type ServiceBusClientOptions,
  type ServiceBusReceivedMessage,
  type ServiceBusReceiver,
} from "@azure/service-bus";
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type ServiceBusBroker,
  type ServiceBusBrokerOptions,
  startServiceBusBroker,
} from "../../dev/service-bus-broker/start.ts";
import { createAdminClient } from "./admin-client.ts";

/**
 * Another namespace to run this suite against: Azure's, or the emulator's with SLUICE_SERVICE_BUS_ADMIN_CONNECTION_STRING too. It
 * makes queues of its own and deletes them. What only our broker can do (short locks, faults, its clock) is left out there.
 */
const elsewhere = process.env.SLUICE_SERVICE_BUS_CONNECTION_STRING;
const adminElsewhere = process.env.SLUICE_SERVICE_BUS_ADMIN_CONNECTION_STRING ?? elsewhere;

export const isOurBroker = elsewhere === undefined;

/** A lock short enough to wait for, and long enough to settle under on a busy machine. Azure allows no less than five seconds. */
const shortLockMs = isOurBroker ? 2_000 : 5_000;
export const shortLock = `PT${shortLockMs / 1_000}S`;

export interface TestNamespace {
  readonly connectionString: string;
  readonly admin: ReturnType<typeof createAdminClient>;
  /** One more, closed with the namespace. */
  client(options?: ServiceBusClientOptions): ServiceBusClient;
  /** Makes a queue that no other test knows. */
  createQueue(options?: CreateQueueOptions): Promise<string>;
  stop(): Promise<void>;
}

/** Our broker, fresh, or the namespace of the environment. */
export async function openTestNamespace(): Promise<TestNamespace> {
  if (elsewhere !== undefined && adminElsewhere !== undefined) return open(elsewhere, adminElsewhere, async () => {});
  return await openBroker();
}

/** Our broker in any case. */
export async function openBroker(
  options?: ServiceBusBrokerOptions,
): Promise<TestNamespace & { readonly broker: ServiceBusBroker }> {
  const broker = await startServiceBusBroker(options);
  return { ...open(broker.connectionString, broker.adminConnectionString, () => broker.stop()), broker };
}

function open(connectionString: string, adminConnectionString: string, stop: () => Promise<void>): TestNamespace {
  const admin = createAdminClient(adminConnectionString);
  const clients: ServiceBusClient[] = [];
  const queues: string[] = [];
  return {
    connectionString,
    admin,
    client(options) {
      const client = new ServiceBusClient(connectionString, {
        retryOptions: { maxRetries: 0, retryDelayInMs: 50, timeoutInMs: 10_000 },
        ...options,
      });
      clients.push(client);
      return client;
    },
    async createQueue(options) {
      const name = `test-${randomBytes(6).toString("hex")}`;
      await admin.createQueue(name, options);
      queues.push(name);
      return name;
    },
    async stop() {
      // A close that meets a reconnect can take the SDK half a minute.
      await Promise.race([Promise.all(clients.map((client) => client.close())), sleep(1_000)]);
      for (const queue of queues.reverse()) await admin.deleteQueue(queue).catch(() => {});
      await stop();
    },
  };
}

/** Exactly so many: the SDK waits a second for more where there might be some. */
export async function receive(receiver: ServiceBusReceiver, count: number): Promise<ServiceBusReceivedMessage[]> {
  const received: ServiceBusReceivedMessage[] = [];
  for (const giveUpAt = Date.now() + 30_000; received.length < count && Date.now() < giveUpAt;) {
    received.push(...await receiver.receiveMessages(count - received.length, { maxWaitTimeInMs: 10_000 }));
  }
  if (received.length < count) throw new Error(`${received.length} of ${count} messages came`);
  return received;
}

export async function receiveOne(receiver: ServiceBusReceiver): Promise<ServiceBusReceivedMessage> {
  const [message] = await receive(receiver, 1);
  if (!message) throw new Error("no message came");
  return message;
}

export function bodies(messages: readonly { body: unknown }[]): unknown[] {
  return messages.map(({ body }) => body);
}

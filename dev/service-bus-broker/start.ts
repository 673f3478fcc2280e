import { startAdministration } from "./admin/administration.ts";
import { createAlarm } from "./alarm.ts";
import type { Broker } from "./amqp/broker.ts";
import { createConsumers } from "./amqp/consumers.ts";
import type { AmqpContent } from "./amqp/content.ts";
import { createFront } from "./amqp/front.ts";
import { createLockToken } from "./amqp/lock-token.ts";
import { type Clock, systemClock } from "./clock.ts";
import { createFaultSwitches, type Faults } from "./faults.ts";
import { createNamespace } from "./queue/namespace.ts";
import { entityNotFound } from "./queue/refusal.ts";
import type { QueueSettings } from "./queue/settings.ts";
import type { Tier } from "./queue/tier.ts";
import { developmentKeys, type SharedAccessKeys } from "./shared-access-key.ts";
import { azureIdleTimes, type IdleTimes, inactiveConnection, startUpkeep } from "./upkeep.ts";

export type { Clock } from "./clock.ts";
export type { Faults } from "./faults.ts";
export type { QueueSettings } from "./queue/settings.ts";
export type { SharedAccessKeys } from "./shared-access-key.ts";

export interface ServiceBusBroker {
  readonly port: number;
  readonly adminPort: number;
  /** With the first of its keys. */
  readonly connectionString: string;
  /** The same with the port of the administration, which is HTTP. */
  readonly adminConnectionString: string;
  readonly faults: Faults;
  connectionStringOf(keyName: string): string;
  /** How many clients are connected. */
  connectionCount(): number;
  /** Connections end; it comes back on the same ports, with all its messages, as a durable broker would. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export interface ServiceBusBrokerOptions {
  /** 0, which is the default, is a free one. */
  readonly port?: number;
  readonly adminPort?: number;
  /** The loopback address, unless told otherwise: its keys are no secret. */
  readonly host?: string;
  readonly tier?: Tier;
  /** Made in this order: one that is forwarded to comes first. */
  readonly queues?: Readonly<Record<string, Partial<QueueSettings>>>;
  readonly keys?: SharedAccessKeys;
  readonly clock?: Clock;
  readonly idle?: Partial<IdleTimes>;
}

/** A Service Bus namespace in this process, for development and tests. Everything is in memory. */
export async function startServiceBusBroker(options: ServiceBusBrokerOptions = {}): Promise<ServiceBusBroker> {
  const { host = "127.0.0.1", tier = "standard", keys = developmentKeys, clock = systemClock } = options;
  const switches = createFaultSwitches();
  const consumers = createConsumers(clock.now);
  const alarm = createAlarm(clock, (now) => {
    namespace.advance(now);
    return namespace.nextDeadline();
  });
  const namespace = createNamespace<AmqpContent>(tier, {
    now: clock.now,
    createLockToken,
    available: consumers.notify,
    deadline: alarm.set,
  });
  for (const [name, settings] of Object.entries(options.queues ?? {})) namespace.create(name, settings, clock.now());

  let port = options.port ?? 0;
  const broker: Broker = { namespace, consumers, clock, faults: switches, keys, host: () => `localhost:${port}` };
  const front = createFront(broker);
  /** Detaches all links of one queue, or of all; returns how many. */
  function detach(name: string | undefined, error: { condition: string; description: string }): number {
    return front.connections().reduce(
      (count, connection) =>
        count + connection.detach(({ queue }) => (name === undefined || queue.name === name ? error : undefined)),
      0,
    );
  }

  port = await front.listen(port, host);
  const administration = await startAdministration({
    namespace,
    clock,
    keys,
    tier,
    port: options.adminPort ?? 0,
    host,
    deleted(name) {
      const { condition, message } = entityNotFound(`sb://${broker.host()}/${name}`);
      detach(name, { condition, description: message });
    },
  }).catch(async (error) => {
    await front.close();
    throw error;
  });
  const stopUpkeep = startUpkeep(front.connections, { ...azureIdleTimes, ...options.idle }, clock);

  function connectionString(toPort: number, keyName: string): string {
    const key = keys[keyName];
    if (!key) throw new Error(`no key has the name ${keyName}`);
    return `Endpoint=sb://localhost:${toPort};SharedAccessKeyName=${keyName};SharedAccessKey=${key.key};UseDevelopmentEmulator=true;`;
  }
  const [firstKey] = Object.keys(keys);
  if (firstKey === undefined) throw new Error("a broker needs a key");

  const faults: Faults = Object.assign(switches, {
    dropConnections: front.drop,
    closeConnections() {
      const connections = front.connections();
      for (const { connection } of connections) connection.close(inactiveConnection(azureIdleTimes.connectionMs));
      return connections.length;
    },
    detachLinks(name?: string) {
      const description = `The link of '${name ?? "any queue"}' is force detached. Code: Moved.`;
      return detach(name?.toLowerCase(), { condition: "amqp:link:detach-forced", description });
    },
    halfOpen: front.halfOpen,
    expireLocks(name: string) {
      const queue = namespace.find(name);
      if (!queue) throw new Error(`there is no queue ${name}`);
      queue.active.expireLocks(clock.now());
      queue.deadLetters.expireLocks(clock.now());
    },
  });

  return {
    port,
    adminPort: administration.port,
    connectionString: connectionString(port, firstKey),
    adminConnectionString: connectionString(administration.port, firstKey),
    faults,
    connectionStringOf: (keyName) => connectionString(port, keyName),
    connectionCount: () => front.connections().length,
    async restart() {
      await front.close();
      await administration.close();
      await front.listen(port, host);
      await administration.listen();
    },
    async stop() {
      stopUpkeep();
      alarm.stop();
      await front.close();
      await administration.close();
    },
  };
}

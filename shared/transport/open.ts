import type { Logger } from "pino";
import { PermanentError } from "../errors.ts";
import type { TransportName } from "../transports.ts";
import { type BullmqConnection, openBullmqTransport } from "./bullmq.ts";
import { openServiceBusTransport, type ServiceBusOptions } from "./service-bus.ts";
import type { ServiceBusAccount } from "./service-bus-account.ts";
import { openStorageQueueTransport, type StorageQueueAccount } from "./storage-queue.ts";
import type { Transport } from "./transport.ts";

/** Where the brokers are. Only the transport that is opened needs its part. */
export interface TransportConfig {
  readonly serviceBus?: { readonly account: ServiceBusAccount } & Pick<ServiceBusOptions, "maxDeliveryCount" | "timeToLiveMs">;
  readonly storageQueue?: StorageQueueAccount;
  readonly bullmq?: BullmqConnection;
  /** Locks of all transports, in milliseconds. Default: what suits each. */
  readonly lockMs?: number;
  /** A message delivered more often goes to the dead letters. Default: 10. */
  readonly maxDeliveryCount?: number;
  /** Where a transport tells what no call of it can. */
  readonly log?: Logger;
}

/**
 * Opens the transport a process works on; call it once per transport and process, as each holds its own connections and
 * credential. Connects with the first call. Throws PermanentError `invalid-configuration` if the broker is not configured.
 */
export function openTransport(name: TransportName, config: TransportConfig): Transport {
  switch (name) {
    case "storage_queue":
      return openStorageQueueTransport(configured(name, config.storageQueue), config);
    case "bullmq":
      return openBullmqTransport(configured(name, config.bullmq), config);
    case "service_bus": {
      const { account, ...options } = configured(name, config.serviceBus);
      return openServiceBusTransport(account, { ...config, ...options });
    }
  }
}

function configured<Part>(name: TransportName, part: Part | undefined): Part {
  if (part === undefined) throw new PermanentError("invalid-configuration", `the transport ${name} is not configured`);
  return part;
}

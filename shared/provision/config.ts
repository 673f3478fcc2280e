import * as v from "valibot";
import { BrokerEnvironment, loadEnvironment, QueueName } from "../environment.ts";
import { serviceBusPoisonQueue } from "../transport/queues.ts";
import type { Tier } from "./service-bus.ts";

const Environment = v.object({
  ...BrokerEnvironment.entries,
  /** As the poison-handler has it: what the dead letters of Service Bus are forwarded to. Here the default is `sb-poison`. */
  AZURE_SERVICE_BUS_POISON_QUEUE: v.optional(QueueName),
});
export type Config = v.InferOutput<typeof Environment>;

export function loadConfig(environment: Record<string, string | undefined>): Config {
  return loadEnvironment(Environment, environment);
}

/** What the services must be told so that they find the dead letters where this puts them; undefined if they are. */
export function adviseServices(config: Config, tier: Tier): string | undefined {
  const { TRANSPORTS, AZURE_SERVICE_BUS_POISON_QUEUE: poisonQueue } = config;
  if (!TRANSPORTS.includes("service_bus")) return undefined;
  if (tier === "basic") {
    return poisonQueue && "NOTE unset AZURE_SERVICE_BUS_POISON_QUEUE for the poison-handler: on Basic nothing is forwarded there";
  }
  if (poisonQueue) return undefined;
  return `NOTE set AZURE_SERVICE_BUS_POISON_QUEUE=${serviceBusPoisonQueue} for the poison-handler: the dead letters are forwarded there`;
}

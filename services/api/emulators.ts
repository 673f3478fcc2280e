import { type CommonEnvironment, serviceBusConnectionString } from "../../shared/environment.ts";
import type { TransportName } from "../../shared/transports.ts";

/** Tells the brokers that stand in for Azure's: their figures say nothing about Azure's speed. */
export function createEmulatorCheck(environment: CommonEnvironment): (transport: TransportName) => boolean {
  const storage = environment.AZURE_STORAGE_CONNECTION_STRING ?? "";
  const emulators: Readonly<Record<TransportName, boolean>> = {
    storage_queue: /AccountName=devstoreaccount1\b|UseDevelopmentStorage=true/i.test(storage),
    service_bus: /UseDevelopmentEmulator=true/i.test(serviceBusConnectionString(environment) ?? ""),
    bullmq: true,
  };
  return (transport) => emulators[transport];
}

import { afterEach, expect, test, vi } from "vitest";

/** Every construction of a client or credential of the Azure SDKs, by its class. */
const { made, counting } = vi.hoisted(() => {
  const made: string[] = [];
  const counted = (Original: new (...args: unknown[]) => object, name: string) =>
    new Proxy(Original, {
      construct(target, args, newTarget) {
        made.push(name);
        return Reflect.construct(target, args, newTarget);
      },
    });
  const counting = (...names: string[]) => async (original: () => Promise<Record<string, unknown>>) => {
    const module = await original();
    const counters = names.map((name) => [name, counted(module[name] as new (...args: unknown[]) => object, name)]);
    return { ...module, ...Object.fromEntries(counters) };
  };
  return { made, counting };
});
vi.mock("@azure/identity", counting("DefaultAzureCredential"));
vi.mock("@azure/service-bus", counting("ServiceBusClient", "ServiceBusAdministrationClient"));
vi.mock("@azure/storage-blob", counting("BlobServiceClient"));
vi.mock("@azure/storage-queue", counting("QueueServiceClient"));

const { openAzureStorage } = await import("../../shared/azure-storage.ts");
const { openClaimCheckFromEnvironment } = await import("../../shared/claim-check/open-from-environment.ts");
const { closeTransports, openTransports } = await import("../../shared/transport/open-transports.ts");
const { createContainers } = await import("../../services/task-runner/containers.ts");
const { loadConfig } = await import("../../services/task-runner/config.ts");
const { loadConfig: loadOrchestratorConfig } = await import("../../services/orchestrator/config.ts");

afterEach(() => made.splice(0));

test("a process that works on queues, containers and claim checks has one credential and one client of each service", async () => {
  const config = loadConfig({
    DATABASE_URL: "postgres://127.0.0.1:1/nothing",
    TRANSPORTS: "storage_queue",
    AZURE_STORAGE_QUEUE_URL: "https://account.queue.core.windows.net",
    AZURE_STORAGE_BLOB_URL: "https://account.blob.core.windows.net",
  });
  const azure = openAzureStorage(config);
  const transports = openTransports(config, azure);
  openClaimCheckFromEnvironment(config, azure);
  createContainers(azure.blobAccount());
  expect(made.sort()).toEqual(["BlobServiceClient", "DefaultAzureCredential", "QueueServiceClient"]);
  await closeTransports(transports);
});

test("a process that works on Service Bus, queues and blobs has one credential, and no more clients than that", async () => {
  const config = loadOrchestratorConfig({
    DATABASE_URL: "postgres://127.0.0.1:1/nothing",
    TRANSPORTS: "service_bus,storage_queue",
    SERVICE_BUS_NAMESPACE: "my-namespace",
    AZURE_STORAGE_QUEUE_URL: "https://account.queue.core.windows.net",
    AZURE_STORAGE_BLOB_URL: "https://account.blob.core.windows.net",
  });
  const azure = openAzureStorage(config);
  const transports = openTransports(config, azure);
  openClaimCheckFromEnvironment(config, azure);
  expect(made.sort()).toEqual([
    "BlobServiceClient",
    "DefaultAzureCredential",
    "QueueServiceClient",
    "ServiceBusAdministrationClient",
    "ServiceBusClient",
  ]);
  await closeTransports(transports);
});

test("without an account, the error names the variable", () => {
  const config = loadConfig({ DATABASE_URL: "postgres://127.0.0.1:1/nothing", TRANSPORTS: "storage_queue" });
  expect(() => openTransports(config)).toThrow("AZURE_STORAGE_CONNECTION_STRING");
  const onServiceBus = loadConfig({ DATABASE_URL: "postgres://127.0.0.1:1/nothing", TRANSPORTS: "service_bus" });
  expect(() => openTransports(onServiceBus)).toThrow(/AZURE_SERVICE_BUS_CONNECTION_STRING.*SERVICE_BUS_NAMESPACE/);
});

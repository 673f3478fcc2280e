import { afterEach, expect, test, vi } from "vitest";

/** Every construction of a client or credential of the Azure SDKs, by its class. */
const { made, counting } = vi.hoisted(() => {
  const made: string[] = [];
  const counting = (name: string) => async (original: () => Promise<Record<string, unknown>>) => {
    const module = await original();
    const Original = module[name] as new (...args: unknown[]) => object;
    const Counted = new Proxy(Original, {
      construct(target, args, newTarget) {
        made.push(name);
        return Reflect.construct(target, args, newTarget);
      },
    });
    return { ...module, [name]: Counted };
  };
  return { made, counting };
});
vi.mock("@azure/identity", counting("DefaultAzureCredential"));
vi.mock("@azure/storage-blob", counting("BlobServiceClient"));
vi.mock("@azure/storage-queue", counting("QueueServiceClient"));

const { openAzureStorage } = await import("../../shared/azure-storage.ts");
const { openClaimCheckFromEnvironment } = await import("../../shared/claim-check/open-from-environment.ts");
const { closeTransports, openTransports } = await import("../../shared/transport/open-transports.ts");
const { createContainers } = await import("../../services/task-runner/containers.ts");
const { loadConfig } = await import("../../services/task-runner/config.ts");

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

test("without an account, the error names the variable", () => {
  const config = loadConfig({ DATABASE_URL: "postgres://127.0.0.1:1/nothing", TRANSPORTS: "storage_queue" });
  expect(() => openTransports(config)).toThrow("AZURE_STORAGE_CONNECTION_STRING");
});

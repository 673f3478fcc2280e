import { BlobServiceClient } from "@azure/storage-blob";
import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createApiClient } from "../../dev/demo/api-client.ts";
import { checkHelloWorld, checkListContainer } from "../../dev/demo/check.ts";
import { CommonEnvironment, loadEnvironment } from "../../shared/environment.ts";
import { closeTransports, openTransports, provisionTransports } from "../../shared/transport/open-transports.ts";
import { type ServiceBusBroker, startServiceBusBroker } from "../../dev/service-bus-broker/start.ts";
import { type Azurite, startAzurite } from "../support/azurite.ts";
import { createJobCatalog } from "../../shared/jobs/catalog.ts";
import { allJobs } from "../support/all-jobs.ts";
import { createTestDatabase } from "../support/database.ts";
import { type DenoRole, startDenoRole } from "./deno-role.ts";

const transports = ["bullmq", "storage_queue", "service_bus"] as const;
const container = "deno-files";
/** In the one directory that the tasks may write to. */
const claimCheckDirectory = `.sluice/claim-checks/${randomBytes(6).toString("hex")}`;
const files = ["a.txt", "Überblick/日本/b.TIF", "100% + #1/c.geojson"].map((name, index) => ({
  name,
  path: "",
  bytes: index * 1_000,
  contentType: "application/octet-stream",
}));

let azurite: Azurite;
let serviceBus: ServiceBusBroker;
beforeAll(async () => {
  [azurite, serviceBus] = await Promise.all([startAzurite(), startServiceBusBroker()]);
  const client = BlobServiceClient.fromConnectionString(azurite.connectionString).getContainerClient(container);
  await client.create();
  for (const { name, bytes } of files) await client.uploadBlockBlob(name, Buffer.alloc(bytes), bytes);
});
afterAll(() => Promise.all([azurite.stop(), serviceBus.stop()]));

test.each([
  ["Blob Storage", {}],
  ["a directory", { CLAIM_CHECK_DIRECTORY: claimCheckDirectory }],
])(
  "every role runs jobs of all transports under Deno, with the permissions of its task and claim checks in %s",
  async (_, claimChecks) => {
    const database = await createTestDatabase();
    const environment: Record<string, string> = {
      DATABASE_URL: database.url,
      AZURE_STORAGE_CONNECTION_STRING: azurite.connectionString,
      AZURE_SERVICE_BUS_CONNECTION_STRING: serviceBus.connectionString,
      SERVICE_BUS_ADMIN_CONNECTION_STRING: serviceBus.adminConnectionString,
      TRANSPORTS: transports.join(","),
      ...claimChecks,
    };
    await provision(environment);
    const roles: DenoRole[] = [];
    try {
      roles.push(
        ...await Promise.all([
          startDenoRole("api", environment),
          startDenoRole("orchestrator", environment),
          ...transports.map((transport) => startDenoRole("task-runner", { ...environment, TRANSPORTS: transport })),
          startDenoRole("poison-handler", environment),
        ]),
      );
      const client = createApiClient(roles[0]?.url ?? "", AbortSignal.timeout(60_000));
      await Promise.all(transports.map(async (transport) => {
        const [greetings, listing] = await Promise.all([
          client.submit("hello_world", { n: 30, name: "Deno" }, transport),
          client.submit("list_container", { container }, transport),
        ]);
        const greeted = await client.whenEnded(greetings, () => {});
        expect(checkHelloWorld(greeted, await client.listTasks(greetings), { n: 30, name: "Deno" })).toEqual([]);
        const listed = await client.whenEnded(listing, () => {});
        expect(checkListContainer(listed, await client.listTasks(listing), files)).toEqual([]);
      }));
      for (const role of roles) expect(role.alarms()).toEqual([]);
    } catch (error) {
      for (const role of roles) console.error(role.output());
      throw error;
    } finally {
      await Promise.all(roles.map((role) => role.stop()));
      await database.drop();
      await rm(claimCheckDirectory, { recursive: true, force: true });
    }
  },
);

async function provision(environment: Record<string, string>): Promise<void> {
  const opened = openTransports(loadEnvironment(CommonEnvironment, environment));
  await provisionTransports(opened, createJobCatalog(allJobs));
  for (const { transport, queues } of opened.values()) {
    for (const queue of Object.values(queues)) await transport.purge(queue);
  }
  await closeTransports(opened);
}

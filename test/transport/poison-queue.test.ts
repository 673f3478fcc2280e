import { QueueServiceClient } from "@azure/storage-queue";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openStorageQueueTransport } from "../../shared/transport/storage-queue.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import { type Azurite, startAzurite } from "../support/azurite.ts";

let azurite: Azurite;
let transport: Transport;

beforeAll(async () => {
  azurite = await startAzurite();
  transport = openStorageQueueTransport(azurite);
});

afterAll(async () => {
  await transport.close();
  await azurite.stop();
});

test("what the Functions host or a person put into the poison queue is received as it is, without a reason", async () => {
  await transport.provision(["tasks"]);
  const body = '{"taskIds":["1"]}';
  const { messageId } = await putText("tasks-poison", Buffer.from(body).toString("base64"));
  const [dead] = await transport.receive("tasks", { max: 1, signal: AbortSignal.timeout(5_000), from: "dead-letters" });
  expect(dead).toMatchObject({ messageId, body, deliveryCount: 1 });
  expect(dead?.deadLettered).toBeUndefined();
});

test("a text too large for a reason goes to the poison queue as it is", async () => {
  await transport.provision(["large"]);
  const text = `{"${"a".repeat(65_000)}"}`;
  await putText("large", text);
  const [message] = await transport.receive("large", { max: 1, signal: AbortSignal.timeout(5_000) });
  await message?.moveToDeadLetters("invalid-message", "breaks the contract");
  const [dead] = await transport.receive("large", { max: 1, signal: AbortSignal.timeout(5_000), from: "dead-letters" });
  expect(dead?.body === text).toBe(true);
});

async function putText(queue: string, text: string) {
  return await QueueServiceClient.fromConnectionString(azurite.connectionString).getQueueClient(queue).sendMessage(text);
}

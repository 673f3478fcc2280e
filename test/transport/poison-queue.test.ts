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

test("a dead letter that somebody puts back into its queue by hand is another message, and another dead letter", async () => {
  await transport.provision(["again"]);
  const receive = async (from: "queue" | "dead-letters") =>
    (await transport.receive("again", { max: 1, signal: AbortSignal.timeout(5_000), from }))[0];
  await transport.send("again", [{ messageId: "m", body: "damaged" }]);
  await (await receive("queue"))?.moveToDeadLetters("invalid-message", "");
  const poison = QueueServiceClient.fromConnectionString(azurite.connectionString).getQueueClient("again-poison");
  const { peekedMessageItems: [peeked] } = await poison.peekMessages();
  const first = await receive("dead-letters");
  await first?.complete();

  const { messageId } = await putText("again", peeked?.messageText ?? "");
  const moved = await receive("queue");
  expect(moved).toMatchObject({ messageId: "m", body: "damaged", identity: messageId });
  await moved?.moveToDeadLetters("invalid-message", "");
  expect((await receive("dead-letters"))?.identity).toBe(messageId);
  expect(first?.identity).not.toBe(messageId);
});

async function putText(queue: string, text: string) {
  return await QueueServiceClient.fromConnectionString(azurite.connectionString).getQueueClient(queue).sendMessage(text);
}

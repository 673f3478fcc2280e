import { QueueServiceClient } from "@azure/storage-queue";
import { openStorageQueueTransport } from "../../shared/transport/storage-queue.ts";
import { startAzurite } from "../support/azurite.ts";
import { describeTransport } from "./conformance.ts";

describeTransport("storage-queue", async () => {
  const azurite = await startAzurite();
  const byHand = QueueServiceClient.fromConnectionString(azurite.connectionString);
  return {
    open: (options) => openStorageQueueTransport(azurite, options),
    putByHand: async (queue, text) => void await byHand.getQueueClient(queue).sendMessage(text),
    openUnreachable: () =>
      openStorageQueueTransport({ connectionString: azurite.connectionString.replaceAll(/127.0.0.1:\d+/g, "127.0.0.1:1") }),
    restart: azurite.restart,
    stop: azurite.stop,
  };
}, { remote: true });

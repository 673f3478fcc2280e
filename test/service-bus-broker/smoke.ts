import { ServiceBusClient } from "@azure/service-bus";
import process from "node:process";

/** Send, receive, complete, renew, dead-letter, schedule, peek with the SDK; prints what it saw. For a runtime of its own. */
const [connectionString = "", queue = ""] = process.argv.slice(2);
const client = new ServiceBusClient(connectionString, { retryOptions: { maxRetries: 0, timeoutInMs: 10_000 } });
const sender = client.createSender(queue);
const receiver = client.createReceiver(queue);

await sender.sendMessages({ body: { n: 1 }, messageId: "one" });
await sender.sendMessages([{ body: { n: 2 } }, { body: { n: 3 } }]);
const [first, second, third] = await receiver.receiveMessages(3, { maxWaitTimeInMs: 10_000 });
if (!first || !second || !third) throw new Error("three messages should have come");
const renewedUntil = await receiver.renewMessageLock(first);
await receiver.completeMessage(first);
await receiver.deadLetterMessage(second, { deadLetterReason: "why", deadLetterErrorDescription: "because" });
await receiver.abandonMessage(third);
await sender.scheduleMessages({ body: { n: 4 } }, new Date(Date.now() + 3_600_000));
const [dead] = await client.createReceiver(queue, { subQueueType: "deadLetter" }).receiveMessages(1, { maxWaitTimeInMs: 10_000 });
const peeked = await receiver.peekMessages(10);

console.log(JSON.stringify({
  received: [first.body, second.body, third.body],
  messageId: first.messageId,
  renewed: renewedUntil.getTime() > Date.now(),
  dead: [dead?.body, dead?.deadLetterReason, dead?.deadLetterErrorDescription],
  peeked: peeked.map(({ body, state, deliveryCount }) => [body, state, deliveryCount]),
}));
await client.close();

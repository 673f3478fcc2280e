import { type ProcessErrorArgs, ServiceBusClient } from "@azure/service-bus";
import { createHmac } from "node:crypto";
import rhea, { type EventContext } from "rhea";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openBroker, receiveOne } from "./test-namespace.ts";

const keys = {
  all: { key: "all-secret", rights: ["Manage"] },
  sender: { key: "sender-secret", rights: ["Send"] },
  listener: { key: "listener-secret", rights: ["Listen"] },
  orders: { key: "orders-secret", rights: ["Send", "Listen"], queue: "orders" },
} as const;

let own: Awaited<ReturnType<typeof openBroker>>;
const clients: ServiceBusClient[] = [];
beforeAll(async () => {
  own = await openBroker({ keys, queues: { orders: {}, others: {} } });
});
afterAll(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await own.stop();
});

function clientOf(connectionString: string): ServiceBusClient {
  const client = new ServiceBusClient(connectionString, {
    retryOptions: { maxRetries: 0, retryDelayInMs: 50, timeoutInMs: 5_000 },
  });
  clients.push(client);
  return client;
}
const clientWith = (keyName: keyof typeof keys) => clientOf(own.broker.connectionStringOf(keyName));

test("E1: a missing queue is MessagingEntityNotFound for sends and receives; subscribe tells processError", async () => {
  const client = clientWith("all");
  const notFound = {
    code: "MessagingEntityNotFound",
    message: expect.stringContaining(`The messaging entity 'sb://localhost:${own.broker.port}/missing' could not be found.`),
  };
  await expect(client.createSender("missing").sendMessages({ body: 1 })).rejects.toMatchObject(notFound);
  await expect(client.createReceiver("missing").receiveMessages(1)).rejects.toMatchObject(notFound);
  await expect(client.createReceiver("missing").peekMessages(1)).rejects.toMatchObject(notFound);
  const { promise, resolve } = Promise.withResolvers<ProcessErrorArgs>();
  const subscription = client.createReceiver("missing").subscribe({
    processMessage: async () => {},
    processError: async (args) => resolve(args),
  });
  expect(await promise).toMatchObject({
    errorSource: "receive",
    entityPath: "missing",
    error: { code: "MessagingEntityNotFound" },
  });
  await subscription.close();
});

test("E4: shared key and SharedAccessSignature connection strings authenticate, for exactly that queue too", async () => {
  await clientWith("orders").createSender("orders").sendMessages({ body: 1 });
  const host = `sb://localhost:${own.broker.port}`;
  const resource = encodeURIComponent(`${host}/orders`);
  const expiry = Math.floor(Date.now() / 1_000) + 600;
  const signature = createHmac("sha256", "orders-secret").update(`${resource}\n${expiry}`).digest("base64");
  const token = `SharedAccessSignature sr=${resource}&sig=${encodeURIComponent(signature)}&se=${expiry}&skn=orders`;
  const client = clientOf(`Endpoint=${host}/;SharedAccessSignature=${token};UseDevelopmentEmulator=true`);
  expect((await receiveOne(client.createReceiver("orders"))).body).toBe(1);
});

test("E3: any scheme in the endpoint works", async () => {
  const client = clientOf(own.broker.connectionString.replace("sb://", "CheeseBurger://"));
  await client.createSender("others").createMessageBatch();
});

test.each([
  ["an unknown key name", (text: string) => text.replace("SharedAccessKeyName=all", "SharedAccessKeyName=nobody")],
  ["a wrong key", (text: string) => text.replace("all-secret", "guess")],
])("E5: %s is Unauthorized for sends, receives and $management", async (_, change) => {
  const client = clientOf(change(own.broker.connectionString));
  const unauthorized = { code: "UnauthorizedAccess", message: expect.stringContaining("InvalidSignature") };
  await expect(client.createSender("orders").sendMessages({ body: 1 })).rejects.toMatchObject(unauthorized);
  await expect(client.createReceiver("orders").receiveMessages(1)).rejects.toMatchObject(unauthorized);
  await expect(client.createReceiver("orders").peekMessages(1)).rejects.toMatchObject(unauthorized);
});

test("2.4: a key without the right for it can't send, or receive, or schedule, or peek", async () => {
  const sending = clientWith("sender");
  const listening = clientWith("listener");
  const needs = (right: string) => ({
    code: "UnauthorizedAccess",
    message: expect.stringContaining(`Unauthorized access. '${right}' claim(s) are required to perform this operation.`),
  });
  await sending.createSender("others").sendMessages({ body: 1 });
  await expect(sending.createReceiver("others").receiveMessages(1)).rejects.toMatchObject(needs("Listen"));
  await expect(sending.createReceiver("others").peekMessages(1)).rejects.toMatchObject(needs("Listen"));
  await expect(listening.createSender("others").sendMessages({ body: 1 })).rejects.toMatchObject(needs("Send"));
  await expect(listening.createSender("others").scheduleMessages({ body: 1 }, new Date())).rejects.toMatchObject(needs("Send"));
  expect((await receiveOne(listening.createReceiver("others"))).body).toBe(1);
});

test("2.4: a key of one queue doesn't learn whether others exist", async () => {
  const client = clientWith("orders");
  for (const queue of ["others", "missing"]) {
    await expect(client.createSender(queue).sendMessages({ body: 1 })).rejects.toMatchObject({
      code: "UnauthorizedAccess",
      message: expect.stringContaining("InvalidAudience"),
    });
  }
});

test("the administration wants Manage", async () => {
  const { createAdminClient } = await import("./admin-client.ts");
  const admin = createAdminClient(
    own.broker.adminConnectionString.replace("=all;", "=sender;").replace("all-secret", "sender-secret"),
  );
  await expect(admin.getQueue("orders")).rejects.toMatchObject({ statusCode: 401 });
});

test("a JWT is accepted, whoever made it; an empty one isn't", async () => {
  // The SDK sends one only over TLS, which this broker hasn't.
  expect(await putToken("jwt", "any.stub.token")).toBe(202);
  expect(await putToken("jwt", "")).toBe(401);
});

test("2.4: a SAS token without an expiry is 500", async () => {
  expect(await putToken("servicebus.windows.net:sastoken", "SharedAccessSignature sr=x&sig=y&skn=all")).toBe(500);
});

async function putToken(type: string, token: string): Promise<unknown> {
  const container = rhea.create_container();
  const connection = container.connect({ port: own.broker.port, host: "127.0.0.1", reconnect: false });
  connection.on("connection_error", () => {});
  connection.on("disconnected", () => {});
  const status = new Promise((resolve) => {
    connection.open_receiver({ source: { address: "$cbs" }, name: "replies" })
      .on("message", ({ message }: EventContext) => resolve(message?.application_properties?.["status-code"]));
  });
  const sender = connection.open_sender({ target: { address: "$cbs" } });
  sender.once("sendable", () =>
    sender.send(
      {
        body: token,
        message_id: "1",
        reply_to: "replies",
        application_properties: { operation: "put-token", name: `sb://localhost:${own.broker.port}/orders`, type },
      } as Parameters<typeof sender.send>[0],
    ));
  const answer = await status;
  connection.close();
  return answer;
}

import { expect, test } from "vitest";
import { PermanentError } from "../../shared/errors.ts";
import { openTransport } from "../../shared/transport/open.ts";

test("a transport that is not configured is refused by its name", () => {
  for (const name of ["storage_queue", "bullmq", "service_bus"] as const) {
    const refusal = expect(() => openTransport(name, {}));
    refusal.toThrow(PermanentError);
    refusal.toThrow(name);
  }
});

test("each name opens its transport, without connecting", async () => {
  const config = {
    storageQueue: { connectionString: "UseDevelopmentStorage=true" },
    bullmq: { databaseUrl: "postgres://nobody@127.0.0.1:1/nothing" },
    serviceBus: { account: { connectionString: "Endpoint=sb://localhost:1;SharedAccessKeyName=a;SharedAccessKey=b" } },
    lockMs: 7_000,
  };
  for (const name of ["storage_queue", "bullmq", "service_bus"] as const) {
    const transport = openTransport(name, config);
    expect(transport).toMatchObject({ name, lockMs: 7_000 });
    await transport.close();
  }
});

test("a connection string of Service Bus that isn't one is refused before anything is connected, without being repeated", () => {
  const open = () =>
    openTransport("service_bus", { serviceBus: { account: { connectionString: "Endpoint=nowhere;SharedAccessKey=s3cret" } } });
  expect(open).toThrow(PermanentError);
  expect(open).toThrow("connection string of Service Bus");
  expect(open).not.toThrow("s3cret");
});

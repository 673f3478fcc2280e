import { expect, test } from "vitest";
import { PermanentError } from "../../shared/errors.ts";
import { openTransport } from "../../shared/transport/open.ts";

test("a transport that is not configured, or not there yet, is refused by its name", () => {
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
    lockMs: 7_000,
  };
  for (const name of ["storage_queue", "bullmq"] as const) {
    const transport = openTransport(name, config);
    expect(transport).toMatchObject({ name, lockMs: 7_000 });
    await transport.close();
  }
});

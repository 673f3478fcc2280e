import { createServer } from "node:net";
import { expect, test } from "vitest";
import { startRole } from "../support/processes.ts";

test.each(["api", "orchestrator", "task-runner", "poison-handler"] as const)(
  "%s says in one line that its port is taken, and ends with 1",
  async (role) => {
    const server = createServer();
    const port = await new Promise<number>((resolve) =>
      server.listen(0, "127.0.0.1", () => {
        const address = server.address();
        resolve(typeof address === "object" && address ? address.port : 0);
      })
    );
    const environment = {
      DATABASE_URL: "postgres://postgres@127.0.0.1:1/nowhere",
      AZURE_STORAGE_CONNECTION_STRING: "UseDevelopmentStorage=true",
      PORT: String(port),
    };
    const { message } = await startRole(role, environment).then(() => new Error("it runs"), (error: Error) => error);
    server.close();
    expect(message).toBe(`${role} ended with 1: PORT: ${port} is taken by another program (on 127.0.0.1)`);
  },
);

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { openTestNamespace } from "./test-namespace.ts";

test("the SDK sends, receives, renews, settles, schedules and peeks under Deno, too", async () => {
  const namespace = await openTestNamespace();
  try {
    const queue = await namespace.createQueue();
    const permissions = ["--no-prompt", "--allow-net", "--allow-read", "--allow-env", "--allow-sys"];
    const { stdout } = await promisify(execFile)(
      "node_modules/.bin/deno",
      ["run", ...permissions, "test/service-bus-broker/smoke.ts", namespace.connectionString, queue],
      { env: { PATH: process.env.PATH, HOME: process.env.HOME, NO_COLOR: "1" }, timeout: 60_000 },
    );
    expect(JSON.parse(stdout)).toEqual({
      received: [{ n: 1 }, { n: 2 }, { n: 3 }],
      messageId: "one",
      renewed: true,
      dead: [{ n: 2 }, "why", "because"],
      peeked: [[{ n: 3 }, "active", 1], [{ n: 4 }, "scheduled", 0]],
    });
  } finally {
    await namespace.stop();
  }
});

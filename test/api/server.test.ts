import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { describe, expect } from "vitest";
import { test } from "../support/database.ts";

const runtimes = {
  node: [process.execPath, "services/api/main.ts"],
  deno: [
    "node_modules/.bin/deno",
    ...["run", "--no-prompt", "--allow-env", "--allow-net", "--allow-read", "--allow-sys", "services/api/main.ts"],
  ],
} as const;

function start([command, ...args]: readonly [string, ...string[]], environment: Record<string, string>) {
  const env = { PATH: process.env.PATH ?? "", HOME: process.env.HOME ?? "", PORT: "0", ...environment };
  const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  const exited = once(child, "exit").then(([code]) => Number(code));
  return { child, exited };
}

async function readPort(child: ReturnType<typeof start>["child"]): Promise<number> {
  for await (const line of createInterface({ input: child.stdout })) {
    const { msg, port } = JSON.parse(line);
    if (msg === "api runs") {
      child.stdout.resume();
      return port;
    }
  }
  throw new Error("the api ended before it listened");
}

describe.each(["node", "deno"] as const)("on %s", (runtime) => {
  test("the api answers over HTTP as the customer's curl asks, and drains when stopped", async ({ database }) => {
    const { child, exited } = start(runtimes[runtime], { DATABASE_URL: database.url, ALLOW_SCHEMA_REDEPLOY: "true" });
    try {
      const url = `http://127.0.0.1:${await readPort(child)}`;
      const submitted = await fetch(`${url}/api/jobs/submit/hello_world`, {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: '{"n": 100, "use_service_bus": false}',
      });
      expect(submitted.status).toBe(202);
      expect(await submitted.json()).toMatchObject({ queue_info: { queued: true, queue_name: "jobs" } });
      expect((await fetch(`${url}/api/health`)).status).toBe(200);
      const tooLarge = await fetch(`${url}/api/jobs/submit/hello_world`, { method: "POST", body: " ".repeat(2_000_000) });
      expect(tooLarge.status).toBe(413);
      const redeployed = await fetch(`${url}/api/db/schema/redeploy?confirm=yes`, { method: "POST" });
      expect(redeployed.status).toBe(200);
      expect(await (await fetch(`${url}/api/db/jobs`)).json()).toMatchObject({ jobs: [] });
    } finally {
      child.kill("SIGTERM");
    }
    expect(await exited).toBe(0);
  });
});

test.for(
  [
    [{}, "DATABASE_URL: is missing"],
    [{ DATABASE_URL: "postgres://x/y", TRANSPORTS: "kafka" }, `TRANSPORTS: "kafka" is none of`],
    [{ DATABASE_URL: "postgres://x/y", DEFAULT_TRANSPORT: "storage_queue" }, "DEFAULT_TRANSPORT: must be one of TRANSPORTS"],
    [{ DATABASE_URL: "postgres://x/y", ALLOW_ADMIN_ROUTES: "yes" }, "ALLOW_ADMIN_ROUTES: must be true or false"],
  ] as const,
)("the environment %j stops it with %s", async ([environment, message]) => {
  const { child, exited } = start(runtimes.node, environment);
  let errors = "";
  child.stderr.on("data", (text) => errors += text);
  expect(await exited).toBe(1);
  expect(errors).toContain(message);
});

import { spawn } from "node:child_process";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ServiceBusBroker, startServiceBusBroker } from "../../dev/service-bus-broker/start.ts";
import { type Azurite, startAzurite } from "../support/azurite.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

const keys = { manager: { key: "manager-secret", rights: ["Manage"] } } as const;

let serviceBus: ServiceBusBroker;
let azurite: Azurite;
let database: TestDatabase;
beforeAll(async () => {
  [serviceBus, azurite, database] = await Promise.all([startServiceBusBroker({ keys }), startAzurite(), createTestDatabase()]);
});
afterAll(() => Promise.all([serviceBus.stop(), azurite.stop(), database.drop()]));

function environment(): Record<string, string> {
  return {
    TRANSPORTS: "service_bus,storage_queue,bullmq",
    AZURE_SERVICE_BUS_CONNECTION_STRING: serviceBus.connectionString,
    SERVICE_BUS_ADMIN_CONNECTION_STRING: serviceBus.adminConnectionString,
    AZURE_STORAGE_CONNECTION_STRING: azurite.connectionString,
    BULLMQ_DATABASE_URL: database.url,
    AZURE_SERVICE_BUS_REPORT_QUEUE: "reports",
  };
}

/** The command as an operator gives it, with nothing in its environment but this. */
async function run(command: string, args: readonly string[], variables: Record<string, string>) {
  const child = spawn(command, args, {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, NO_COLOR: "1", ...variables },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk) => stdout += chunk);
  child.stderr.on("data", (chunk) => stderr += chunk);
  const { promise, resolve } = Promise.withResolvers<number | null>();
  child.once("close", resolve);
  return { exitCode: await promise, stdout, stderr };
}

const npm = (args: readonly string[], variables = environment()) =>
  run("npm", ["run", "--silent", "provision", ...args], variables);
const deno = (args: readonly string[], variables = environment()) =>
  run("node_modules/.bin/deno", ["task", "--quiet", "provision", ...args], variables);

/** The cells of the rows of a table, by transport and queue. */
function cells(stdout: string): Record<string, string> {
  const rows = stdout.split("\n").filter((line) => /^(service_bus|storage_queue|bullmq|blob_storage)\s/.test(line));
  return Object.fromEntries(
    rows.map((row) => row.split(/\s{2,}/)).map(([target, queue, ...rest]) => [`${target} ${queue}`, rest.join(" ")]),
  );
}

const everything = [
  ...["sb-poison", "sb-jobs", "sb-stages", "sb-tasks", "scoring-jobs", "reports"].map((name) => `service_bus ${name}`),
  ...["geospatial-jobs", "geospatial-stages", "geospatial-tasks", "scoring-jobs", "reports"].flatMap((name) => [
    `storage_queue ${name}`,
    `storage_queue ${name}-poison`,
  ]),
  "blob_storage sluice-claim-checks",
];

test("npm run provision makes what all transports need; a check says so, under Node and under Deno", async () => {
  const missing = await npm(["--", "--check"]);
  expect(missing.exitCode).toBe(1);
  expect(cells(missing.stdout)).toMatchObject(
    Object.fromEntries(everything.map((name) => [name, "there missing run it without --check"])),
  );

  const created = await npm([]);
  expect(created.exitCode).toBe(0);
  expect(cells(created.stdout)).toMatchObject(Object.fromEntries(everything.map((name) => [name, "there created"])));
  expect(created.stdout).toContain("18 created");
  expect(created.stdout).toContain("set AZURE_SERVICE_BUS_POISON_QUEUE=sb-poison for the poison-handler");

  const node = await npm(["--", "--check"]);
  const underDeno = await deno(["--check"]);
  for (const { exitCode, stdout } of [node, underDeno]) {
    expect(exitCode).toBe(0);
    expect(cells(stdout)).toMatchObject(Object.fromEntries(everything.map((name) => [name, "there there"])));
    expect(stdout).toContain("18 as wanted");
  }
  expect(underDeno.stdout).toBe(node.stdout);
});

test("one transport that fails is named with its cause, the others are checked, and no secret is printed", async () => {
  const variables = {
    ...environment(),
    SERVICE_BUS_ADMIN_CONNECTION_STRING: serviceBus.adminConnectionString.replace("manager-secret", "guessed-secret"),
  };
  for (const command of [npm, deno]) {
    const { exitCode, stdout, stderr } = await command(command === npm ? ["--"] : [], variables);
    expect(exitCode).toBe(3);
    expect(stdout).toMatch(/^FAILED service_bus, everything: localhost:\d+: the key, or the name of the key, is wrong/m);
    expect(cells(stdout)).toMatchObject({ "storage_queue geospatial-jobs": expect.stringMatching(/^there (there|created)$/) });
    expect(stdout + stderr).not.toMatch(/secret|Eby8|^ +at /m);
  }
});

test("dead letters are forwarded to the queue that the poison-handler has been told", async () => {
  const variables = { ...environment(), TRANSPORTS: "service_bus", AZURE_SERVICE_BUS_POISON_QUEUE: "dead-ends" };
  const { stdout } = await npm(["--", "--update"], variables);
  expect(cells(stdout)).toMatchObject({
    "service_bus dead-ends": "there created",
    "service_bus sb-tasks": "forwardDeadLetteredMessagesTo dead-ends sb-poison, now dead-ends",
  });
  expect(stdout).not.toContain("NOTE");
  const { exitCode } = await npm(["--", "--check"], variables);
  expect(exitCode).toBe(0);
});

test("--json is for programs: mode, exit code and each difference", async () => {
  const { exitCode, stdout } = await npm(["--", "--check", "--json", "--tier", "basic"], {
    ...environment(),
    TRANSPORTS: "service_bus",
    CLAIM_CHECK_DIRECTORY: "/tmp/unused",
    AZURE_SERVICE_BUS_SCORING_QUEUE: "not-there",
  });
  const report = JSON.parse(stdout);
  expect(exitCode).toBe(1);
  expect(report).toMatchObject({ mode: "check", tier: "basic", exitCode: 1 });
  expect(report.findings).toContainEqual({
    target: "service_bus",
    resource: "not-there",
    outcome: "missing",
    differences: [],
    updated: [],
  });
});

test("wrong arguments and a wrong environment are named, and end with 2", async () => {
  const cases = [
    [["--", "--chek"], {}, "--chek"],
    [["--check"], {}, "npm run provision -- --check"],
    [[], { TRANSPORTS: "service_bus,pigeons" }, "TRANSPORTS"],
    [[], { TRANSPORTS: "service_bus" }, "AZURE_SERVICE_BUS_CONNECTION_STRING"],
    [[], { TRANSPORTS: "service_bus", AZURE_SERVICE_BUS_CONNECTION_STRING: "a-secret" }, "the connection string of Service Bus"],
    [[], { TRANSPORTS: "storage_queue", AZURE_STORAGE_CONNECTION_STRING: "a-secret" }, "AZURE_STORAGE_CONNECTION_STRING"],
    [[], { TRANSPORTS: "bullmq" }, "REDIS_URL"],
  ] as const;
  await Promise.all(cases.map(async ([args, variables, name]) => {
    // npm starts slowly; only what it keeps for itself needs it.
    const [first, ...others] = args;
    const { exitCode, stdout, stderr } = first === "--" || first === undefined
      ? await run(process.execPath, ["shared/provision/main.ts", ...others], { ...variables })
      : await npm(args, { ...variables });
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toContain(name);
    expect(stderr).not.toMatch(/secret|^ +at /m);
  }));
});

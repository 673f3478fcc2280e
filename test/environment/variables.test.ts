import { readFile } from "node:fs/promises";
import * as v from "valibot";
import { expect, test } from "vitest";
import { loadDevSettings, portNames, portVariable } from "../../dev/stack/settings.ts";
import { loadConfig as loadApiConfig } from "../../services/api/config.ts";
import { loadConfig as loadOrchestratorConfig } from "../../services/orchestrator/config.ts";
import { loadConfig as loadPoisonConfig } from "../../services/poison-handler/config.ts";
import { loadConfig as loadRunnerConfig } from "../../services/task-runner/config.ts";
import { serviceBusConnectionString } from "../../shared/environment.ts";
import { heapFlags } from "../../shared/heap.ts";
import { loadConfig as loadProvisionConfig } from "../../shared/provision/config.ts";

const readers = {
  api: loadApiConfig,
  orchestrator: loadOrchestratorConfig,
  "task-runner": loadRunnerConfig,
  "poison-handler": loadPoisonConfig,
};

/** What has a task of Deno. */
const tasksOfDeno = { ...readers, provision: loadProvisionConfig };

const NodePackage = v.object({ scripts: v.record(v.string(), v.string()) });
const DenoConfig = v.object({ tasks: v.record(v.string(), v.string()) });

/** The variables that a process asks its environment for. */
function variablesOf(load: (environment: Record<string, string | undefined>) => unknown): readonly string[] {
  const asked = new Set<string>();
  const environment: Record<string, string | undefined> = { DATABASE_URL: "postgres://localhost/x", TRANSPORTS: "bullmq" };
  load(
    new Proxy(environment, {
      get(target, name) {
        asked.add(String(name));
        return target[String(name)];
      },
      has(target, name) {
        asked.add(String(name));
        return name in target;
      },
    }),
  );
  return [...asked].sort();
}

test.each(Object.entries(tasksOfDeno))(
  "`deno task %s` may read what it reads, and what Azure's credentials do",
  async (name, load) => {
    const { tasks } = v.parse(DenoConfig, JSON.parse(await readFile("deno.json", "utf8")));
    const task = tasks[name] ?? "";
    const allowed = /--allow-env=(\S+)/.exec(task)?.[1]?.split(",") ?? [];
    const azure = ["AZURE_*", "IDENTITY_ENDPOINT", "IDENTITY_HEADER"];
    const own = variablesOf(load).filter((name) => !name.startsWith("AZURE_"));
    expect(allowed.toSorted()).toEqual([...own, ...azure].sort());
    expect(task).not.toMatch(/--allow-(all|run|ffi)|-A\b/);
  },
);

test.each(Object.keys(readers))("%s starts with a bounded heap, on both runtimes", async (role) => {
  const { tasks } = v.parse(DenoConfig, JSON.parse(await readFile("deno.json", "utf8")));
  const { scripts } = v.parse(NodePackage, JSON.parse(await readFile("package.json", "utf8")));
  expect(tasks[role]).toContain(` --v8-flags=${heapFlags.join(",")} `);
  expect(scripts[`start:${role}`]).toContain(`node ${heapFlags.join(" ")} `);
});

test(".env.example names every variable", async () => {
  const text = await readFile(".env.example", "utf8");
  const named = new Set([...text.matchAll(/^#?([A-Za-z_]+)=/gm)].map(([, name]) => name));
  const read = [...Object.values(tasksOfDeno), loadDevSettings].flatMap(variablesOf);
  expect([...named].sort()).toEqual([...new Set(read)].sort());
});

test("a setting with several names is read under each, and two that differ are refused by their names", () => {
  const load = (environment: Record<string, string>) =>
    loadRunnerConfig({ DATABASE_URL: "postgres://localhost/x", TRANSPORTS: "bullmq", ...environment });
  const names = ["AZURE_SERVICE_BUS_CONNECTION_STRING", "SERVICE_BUS_CONNECTION_STRING", "ServiceBusConnection"];
  for (const name of names) expect(serviceBusConnectionString(load({ [name]: "Endpoint=sb://a" }))).toBe("Endpoint=sb://a");
  const same = load(Object.fromEntries(names.map((name) => [name, "Endpoint=sb://a"])));
  expect(serviceBusConnectionString(same)).toBe("Endpoint=sb://a");
  for (const name of names.slice(1)) {
    const loadBoth = () => load({ AZURE_SERVICE_BUS_CONNECTION_STRING: "Endpoint=sb://a", [name]: "Endpoint=sb://secret" });
    expect(loadBoth).toThrow(`AZURE_SERVICE_BUS_CONNECTION_STRING, ${name}`);
    expect(loadBoth).not.toThrow("secret");
  }
});

test("a list is refused under the name of its variable, with what is wrong in it", () => {
  const load = (environment: Record<string, string>) =>
    loadRunnerConfig({ DATABASE_URL: "postgres://localhost/x", TRANSPORTS: "bullmq", ...environment });
  expect(() => load({ TRANSPORTS: "bullmq, kafka,,service_bus" })).toThrow(
    /^TRANSPORTS: "kafka" is none of service_bus, storage_queue, bullmq; TRANSPORTS: "" is none of service_bus, storage_queue, bullmq$/,
  );
  expect(() => load({ TASK_QUEUE: "scoring-jobs,Report_Jobs" })).toThrow(/^TASK_QUEUE: "Report_Jobs" must be 3 to 55 lower-case/);
  expect(() => load({ TASK_QUEUE: "x".repeat(10_000) })).toThrow(/^TASK_QUEUE: "x{76}…" must be/);
  expect(() => load({ TASK_QUEUE: " " })).toThrow(/^TASK_QUEUE: is set but empty$/);
  expect(load({ TASK_QUEUE: "scoring-jobs, report-jobs" }).queues).toEqual(["scoring-jobs", "report-jobs"]);
});

test("each port of the stack has a variable, by which it is called when it is taken", () => {
  expect(variablesOf(loadDevSettings)).toEqual(expect.arrayContaining(portNames.map(portVariable)));
});

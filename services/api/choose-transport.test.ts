import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import type { RoutingRule } from "../../shared/store/routing-rules.ts";
import { chooseRoute, type RoutedJob, type Routing } from "./choose-transport.ts";

const jobIds = Array.from({ length: 10_000 }, (_, serial) => createHash("sha256").update(`job ${serial}`).digest("hex"));

function rule(values: Partial<RoutingRule>): RoutingRule {
  return { jobType: "hello_world", transport: "service_bus", percent: 100, minTasks: 0, updatedAt: new Date(0), ...values };
}

function routing(values: Partial<Routing>): Routing {
  return {
    accepting: ["service_bus", "storage_queue"],
    defaultTransport: "storage_queue",
    fallback: undefined,
    rules: [],
    isAway: () => false,
    ...values,
  };
}

function job(values: Partial<RoutedJob> = {}): RoutedJob {
  return { jobId: "7".repeat(64), jobType: "hello_world", named: undefined, estimatedTasks: undefined, ...values };
}

test("without a rule a job goes to the default", () => {
  expect(chooseRoute(job(), routing({}))).toMatchObject({ transport: "storage_queue", routedBy: "default", fallbackFrom: null });
});

test("the client's word stands above every rule", () => {
  const route = chooseRoute(job({ named: "storage_queue" }), routing({ rules: [rule({})] }));
  expect(route).toMatchObject({ transport: "storage_queue", routedBy: "request" });
});

test("a type's own rule stands above that of all types", () => {
  const rules = [rule({ jobType: "*", transport: "storage_queue" }), rule({})];
  expect(chooseRoute(job(), routing({ rules }))).toMatchObject({ transport: "service_bus", routedBy: "rule" });
  expect(chooseRoute(job({ jobType: "other" }), routing({ rules }))).toMatchObject({
    transport: "storage_queue",
    routedBy: "rule",
  });
});

test.each([0, 1, 25, 100])("%d percent of the jobs follow the rule, the same ones each time", (percent) => {
  const chosen = () =>
    jobIds.filter((jobId) => chooseRoute(job({ jobId }), routing({ rules: [rule({ percent })] })).transport === "service_bus");
  // Six standard deviations of ten thousand draws.
  expect(Math.abs(chosen().length / 10_000 - percent / 100)).toBeLessThanOrEqual(
    6 * Math.sqrt(percent / 100 * (1 - percent / 100) / 10_000),
  );
  expect(chosen()).toEqual(chosen());
});

test("raising a percentage moves jobs to the rule's transport, and none away from it", () => {
  const at = (percent: number) =>
    new Set(
      jobIds.filter((jobId) => chooseRoute(job({ jobId }), routing({ rules: [rule({ percent })] })).transport === "service_bus"),
    );
  expect([...at(10)].filter((jobId) => !at(30).has(jobId))).toEqual([]);
});

test.each([[99, "storage_queue"], [100, "service_bus"], [undefined, "storage_queue"]] as const)(
  "a rule for 100 tasks and more sends a job of %s to %s",
  (estimatedTasks, transport) => {
    expect(chooseRoute(job({ estimatedTasks }), routing({ rules: [rule({ minTasks: 100 })] })).transport).toBe(transport);
  },
);

test("a rule for a transport that takes no new jobs is passed over", () => {
  const route = chooseRoute(job(), routing({ accepting: ["storage_queue"], rules: [rule({})] }));
  expect(route).toMatchObject({ transport: "storage_queue", routedBy: "default" });
});

test("while a broker is away, jobs for it go to the fallback, and say so", () => {
  const away = { isAway: (name: string) => name === "service_bus", fallback: "storage_queue" as const };
  expect(chooseRoute(job({ named: "service_bus" }), routing(away))).toMatchObject({
    transport: "storage_queue",
    routedBy: "request",
    fallbackFrom: "service_bus",
  });
  expect(chooseRoute(job({ named: "storage_queue" }), routing(away))).toMatchObject({ fallbackFrom: null });
});

test("without a fallback they wait for their broker", () => {
  const route = chooseRoute(job({ named: "service_bus" }), routing({ isAway: () => true }));
  expect(route).toMatchObject({ transport: "service_bus", fallbackFrom: null });
});

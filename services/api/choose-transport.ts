import { ContractError } from "../../shared/contracts/parse.ts";
import type { ParsedSubmission } from "../../shared/contracts/submission.ts";
import type { RoutingRule } from "../../shared/store/routing-rules.ts";
import type { RoutedBy } from "../../shared/store/jobs.ts";
import type { TransportName } from "../../shared/transports.ts";
import { Problem } from "./problem.ts";

/** What decides where a new job goes. */
export interface Routing {
  /** The transports that take new jobs. */
  readonly accepting: readonly TransportName[];
  /** Where jobs go whose client doesn't say, and of whose type no rule does. */
  readonly defaultTransport: TransportName;
  /** Where new jobs go while the broker they were for is away. Without one they wait for it. */
  readonly fallback: TransportName | undefined;
  readonly rules: readonly RoutingRule[];
  isAway(transport: TransportName): boolean;
}

/** Of a job that is not there yet. */
export interface RoutedJob {
  readonly jobId: string;
  readonly jobType: string;
  /** The transport its client named. */
  readonly named: TransportName | undefined;
  /** How many tasks it will have, as far as its type can tell. */
  readonly estimatedTasks: number | undefined;
}

export interface Route {
  readonly transport: TransportName;
  readonly routedBy: RoutedBy;
  /** The rule that was followed, or that would have been but for its percentage or size. */
  readonly rule: RoutingRule | undefined;
  /** The transport it would be on if its broker were not away. */
  readonly fallbackFrom: TransportName | null;
}

/**
 * The transport that the client named, undefined if it left the choice to us: then it isn't part of the job's id.
 * `use_service_bus: false` means Queue Storage, or else BullMQ, its stand-in.
 */
export function readNamedTransport(
  { transport, useServiceBus }: Pick<ParsedSubmission, "transport" | "useServiceBus">,
  accepting: readonly TransportName[],
): TransportName | undefined {
  if (transport !== undefined && useServiceBus !== undefined && (transport === "service_bus") !== useServiceBus) {
    const message = `transport ${transport} and use_service_bus ${useServiceBus} contradict each other`;
    throw new ContractError("invalid-message", [{ field: "transport", message }, { field: "use_service_bus", message }]);
  }
  if (transport === undefined && useServiceBus === undefined) return undefined;
  const wanted: readonly TransportName[] = transport
    ? [transport]
    : useServiceBus
    ? ["service_bus"]
    : ["storage_queue", "bullmq"];
  const named = wanted.find((name) => accepting.includes(name));
  if (named !== undefined) return named;
  const message = `${wanted.join(" and ")} can't be used here; enabled: ${accepting.join(", ")}`;
  throw new Problem("transport-not-enabled", message, {
    errors: [{ field: transport ? "transport" : "use_service_bus", message }],
    members: { enabled_transports: accepting },
  });
}

/** The client's word, else the rule of the job's type, else the default; and the fallback while that broker is away. */
export function chooseRoute(job: RoutedJob, routing: Routing): Route {
  const rule = routing.rules.find(({ jobType }) => jobType === job.jobType) ??
    routing.rules.find(({ jobType }) => jobType === "*");
  const ruled = job.named === undefined && rule && applies(rule, job) && routing.accepting.includes(rule.transport);
  const chosen = job.named ?? (ruled ? rule.transport : routing.defaultTransport);
  const { fallback } = routing;
  const givesWay = fallback !== undefined && fallback !== chosen && routing.isAway(chosen);
  return {
    transport: givesWay ? fallback : chosen,
    routedBy: job.named ? "request" : ruled ? "rule" : "default",
    rule,
    fallbackFrom: givesWay ? chosen : null,
  };
}

function applies({ percent, minTasks }: RoutingRule, { jobId, estimatedTasks }: RoutedJob): boolean {
  if (minTasks > 0 && (estimatedTasks === undefined || estimatedTasks < minTasks)) return false;
  return percentileOf(jobId) < percent;
}

/** 0 up to 100, from the job's id: the same job is always on the same side, and raising a percentage only adds jobs. */
export function percentileOf(jobId: string): number {
  return Number.parseInt(jobId.slice(0, 8), 16) / 2 ** 32 * 100;
}

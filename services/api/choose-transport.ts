import { ContractError } from "../../shared/contracts/parse.ts";
import type { ParsedSubmission } from "../../shared/contracts/submission.ts";
import type { TransportName } from "../../shared/transports.ts";
import { Problem } from "./problem.ts";

export interface EnabledTransports {
  readonly enabled: readonly TransportName[];
  readonly fallback: TransportName;
}

export interface ChosenTransport {
  readonly transport: TransportName;
  /** Undefined if the client left the choice to us: then it isn't part of the job's id. */
  readonly named: TransportName | undefined;
}

/** `use_service_bus: false` means Queue Storage, or else BullMQ, its stand-in. */
export function chooseTransport(
  { transport, useServiceBus }: Pick<ParsedSubmission, "transport" | "useServiceBus">,
  { enabled, fallback }: EnabledTransports,
): ChosenTransport {
  if (transport !== undefined && useServiceBus !== undefined && (transport === "service_bus") !== useServiceBus) {
    const message = `transport ${transport} and use_service_bus ${useServiceBus} contradict each other`;
    throw new ContractError("invalid-message", [{ field: "transport", message }, { field: "use_service_bus", message }]);
  }
  if (transport === undefined && useServiceBus === undefined) return { transport: fallback, named: undefined };
  const wanted: readonly TransportName[] = transport
    ? [transport]
    : useServiceBus
    ? ["service_bus"]
    : ["storage_queue", "bullmq"];
  const named = wanted.find((name) => enabled.includes(name));
  if (named !== undefined) return { transport: named, named };
  const message = `${wanted.join(" and ")} can't be used here; enabled: ${enabled.join(", ")}`;
  throw new Problem("transport-not-enabled", message, {
    errors: [{ field: transport ? "transport" : "use_service_bus", message }],
    members: { enabled_transports: enabled },
  });
}

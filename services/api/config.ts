import * as v from "valibot";
import { ContractError } from "../../shared/contracts/parse.ts";
import { CommonEnvironment, Flag, Integer, loadEnvironment, Text, TrueOrFalse } from "../../shared/environment.ts";
import { listPrices, PriceTable } from "./prices.ts";
import { defaultRedaction, RedactionRule } from "./redact.ts";
import { type TransportName, transportNames } from "../../shared/transports.ts";

const ApiEnvironment = v.object({
  ...CommonEnvironment.entries,
  PORT: Integer(0, 65_535, 8080),
  /** Where jobs go whose client doesn't say, and no rule. Default: `service_bus` if `USE_SERVICE_BUS`, else the first of `TRANSPORTS`. */
  DEFAULT_TRANSPORT: v.optional(v.picklist(transportNames)),
  /**
   * `false`: no new jobs go to Service Bus, what is placed there still runs. `true`: jobs whose client doesn't say go there; where
   * `TRANSPORTS` doesn't name it, to `FALLBACK_TRANSPORT`.
   */
  USE_SERVICE_BUS: v.optional(TrueOrFalse),
  /** Another name of the same. */
  ENABLE_SERVICE_BUS: v.optional(TrueOrFalse),
  /** Where new jobs go while the broker they were for is away. Default: they wait for it. */
  FALLBACK_TRANSPORT: v.optional(v.picklist(transportNames)),
  /** JSON of a PriceTable. Default: list prices. */
  BROKER_PRICES: v.optional(v.pipe(Text, v.parseJson(undefined, "must be JSON"), PriceTable), JSON.stringify(listPrices)),
  /** Lets `POST /api/db/schema/redeploy` delete everything. */
  ALLOW_SCHEMA_REDEPLOY: Flag(false),
  /** Answers admin routes to anybody who can reach this process, not only on its own machine. */
  ALLOW_ADMIN_ROUTES: Flag(false),
  /** Whose values are taken out of bodies and errors before they are shown. */
  POISON_REDACT: v.optional(RedactionRule, defaultRedaction.join(",")),
});

export type Config = Omit<v.InferOutput<typeof ApiEnvironment>, "DEFAULT_TRANSPORT"> & {
  /** The transports that take new jobs. */
  readonly accepting: readonly TransportName[];
  readonly defaultTransport: TransportName;
};

/** Throws ContractError naming the variables at fault. */
export function loadConfig(environment: Record<string, string | undefined>): Config {
  const { DEFAULT_TRANSPORT, ...config } = loadEnvironment(ApiEnvironment, environment);
  const { TRANSPORTS, FALLBACK_TRANSPORT } = config;
  const { USE_SERVICE_BUS, ENABLE_SERVICE_BUS } = config;
  if (USE_SERVICE_BUS !== undefined && ENABLE_SERVICE_BUS !== undefined && USE_SERVICE_BUS !== ENABLE_SERVICE_BUS) {
    refuse("USE_SERVICE_BUS, ENABLE_SERVICE_BUS", "are the same setting, with different values");
  }
  const useServiceBus = USE_SERVICE_BUS ?? ENABLE_SERVICE_BUS;
  if (FALLBACK_TRANSPORT !== undefined && !TRANSPORTS.includes(FALLBACK_TRANSPORT)) {
    refuse("FALLBACK_TRANSPORT", "must be one of TRANSPORTS");
  }
  // With a fallback, Service Bus may be wanted where it can't be reached yet: its jobs go there.
  const absent = useServiceBus === true && !TRANSPORTS.includes("service_bus");
  if (absent && FALLBACK_TRANSPORT === undefined) {
    refuse(
      "USE_SERVICE_BUS",
      "is true, but TRANSPORTS does not name service_bus, and there is no FALLBACK_TRANSPORT",
    );
  }
  const accepting = [
    ...TRANSPORTS.filter((name) => name !== "service_bus" || useServiceBus !== false),
    ...(absent ? ["service_bus" as const] : []),
  ];
  const [first] = accepting;
  if (first === undefined) refuse("USE_SERVICE_BUS", "is false, and TRANSPORTS has no other transport for new jobs");
  if (DEFAULT_TRANSPORT !== undefined && !accepting.includes(DEFAULT_TRANSPORT)) {
    refuse("DEFAULT_TRANSPORT", `must be one of TRANSPORTS that takes new jobs: ${accepting.join(", ")}`);
  }
  return { ...config, accepting, defaultTransport: DEFAULT_TRANSPORT ?? (useServiceBus ? "service_bus" : first) };
}

function refuse(field: string, message: string): never {
  throw new ContractError("invalid-configuration", [{ field, message }]);
}

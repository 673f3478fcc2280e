import * as v from "valibot";
import { ContractError, parse } from "./contracts/parse.ts";
import type { AssessmentSettings } from "./jobs/assessment.ts";
import { logLevels } from "./log.ts";
import { defaultQueues, type QueueNames } from "./transport/queues.ts";
import { type TransportName, transportNames } from "./transports.ts";

export const Integer = (minimum: number, maximum: number, fallback: number) =>
  v.optional(
    v.pipe(v.string(), v.regex(/^\d+$/, "must be a whole number"), v.transform(Number), v.minValue(minimum), v.maxValue(maximum)),
    String(fallback),
  );
export const TrueOrFalse = v.pipe(
  v.string(),
  v.toLowerCase(),
  v.picklist(["true", "false"], "must be true or false"),
  v.transform((text) => text === "true"),
);
export const Flag = (fallback: boolean) => v.optional(TrueOrFalse, String(fallback));
export const Text = v.pipe(v.string(), v.trim(), v.minLength(1, "is set but empty"));
/** Fits every broker: letters, digits and single hyphens, 3 to 55 characters, as dead letters take another eight. */
export const QueueName = v.pipe(
  Text,
  v.regex(/^(?=.{3,55}$)[a-z0-9]+(-[a-z0-9]+)*$/, "must be 3 to 55 lower-case letters, digits and single hyphens"),
);
export const Url = (...protocols: string[]) =>
  v.pipe(
    Text,
    v.check(
      (text) => URL.canParse(text) && protocols.includes(new URL(text).protocol),
      `must be a URL of ${protocols.join(" or ")}`,
    ),
  );

/**
 * Values separated by commas. One at fault is reported under the variable's own name, and by its value: nothing secret comes in
 * lists.
 */
export const List = <Item>(item: v.GenericSchema<string, Item>) =>
  v.pipe(
    Text,
    v.rawTransform(({ dataset, addIssue, NEVER }): Item[] => {
      const items = dataset.value.split(",").map((text) => v.safeParse(item, text.trim()));
      const bad = items.filter((parsed) => !parsed.success);
      for (const { issues: [issue] } of bad) addIssue({ message: `${shorten(issue.input)} ${issue.message}` });
      return bad.length === 0 ? items.map(({ output }) => output as Item) : NEVER;
    }),
  );

function shorten(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length <= 80 ? text : `${text.slice(0, 77)}…"`;
}

/** Where brokers and storage are, and what their queues are called: what `npm run provision` reads. */
export const BrokerEnvironment = v.object({
  DATABASE_URL: v.optional(Url("postgres:", "postgresql:")),
  /** BullMQ runs on it; without it, on `BULLMQ_DATABASE_URL`. */
  REDIS_URL: v.optional(Url("redis:", "rediss:")),
  /** The PostgreSQL that BullMQ uses where there is no Redis. Default: `DATABASE_URL`. */
  BULLMQ_DATABASE_URL: v.optional(Url("postgres:", "postgresql:")),
  AZURE_STORAGE_CONNECTION_STRING: v.optional(Text),
  /** Instead of a connection string: `https://<account>.queue.core.windows.net`, with DefaultAzureCredential. */
  AZURE_STORAGE_QUEUE_URL: v.optional(Url("https:", "http:")),
  AZURE_STORAGE_BLOB_URL: v.optional(Url("https:", "http:")),
  AZURE_SERVICE_BUS_CONNECTION_STRING: v.optional(Text),
  /** Other names of the same. */
  SERVICE_BUS_CONNECTION_STRING: v.optional(Text),
  ServiceBusConnection: v.optional(Text),
  /** Where queues are made and counted, if not there: an emulator has another port for it. */
  SERVICE_BUS_ADMIN_CONNECTION_STRING: v.optional(Text),
  /** Instead of a connection string: the name of the namespace, with DefaultAzureCredential. */
  SERVICE_BUS_NAMESPACE: v.optional(Text),
  /** The transports this process serves, separated by commas. */
  TRANSPORTS: v.optional(List(v.picklist(transportNames, `is none of ${transportNames.join(", ")}`)), "bullmq"),
  /** The job type `assessment`: its stages' own queues, attempts in all, seconds between them, seconds until a stage must have ended. */
  AZURE_SERVICE_BUS_SCORING_QUEUE: v.optional(QueueName, "scoring-jobs"),
  AZURE_SERVICE_BUS_REPORT_QUEUE: v.optional(QueueName, "report-jobs"),
  AZURE_SERVICE_BUS_MAX_RETRIES: Integer(1, 100, 3),
  AZURE_SERVICE_BUS_RETRY_DELAY: Integer(0, 86_400, 60),
  AZURE_SERVICE_BUS_MESSAGE_TTL: Integer(1, 2_592_000, 3_600),
  /** Claim checks go to this directory, or else to this Blob container. */
  CLAIM_CHECK_DIRECTORY: v.optional(Text),
  CLAIM_CHECK_CONTAINER: v.optional(Text, "sluice-claim-checks"),
});
export type BrokerEnvironment = v.InferOutput<typeof BrokerEnvironment>;

/** What every service reads. */
export const CommonEnvironment = v.object({
  ...BrokerEnvironment.entries,
  DATABASE_URL: Url("postgres:", "postgresql:"),
  LOG_LEVEL: v.optional(v.picklist(logLevels), "info"),
  HOST: v.optional(Text, "127.0.0.1"),
  PORT: Integer(0, 65_535, 0),
  /** How long a stopped process may finish what it has begun. */
  GRACE_MS: Integer(0, 3_600_000, 25_000),
});
export type CommonEnvironment = v.InferOutput<typeof CommonEnvironment>;

/** What of the environment job types are made from: the same in every role. */
export function readJobSettings(environment: BrokerEnvironment): { readonly assessment: AssessmentSettings } {
  return {
    assessment: {
      scoringQueue: environment.AZURE_SERVICE_BUS_SCORING_QUEUE,
      reportQueue: environment.AZURE_SERVICE_BUS_REPORT_QUEUE,
      attempts: environment.AZURE_SERVICE_BUS_MAX_RETRIES,
      retryDelayMs: environment.AZURE_SERVICE_BUS_RETRY_DELAY * 1_000,
      deadlineMs: environment.AZURE_SERVICE_BUS_MESSAGE_TTL * 1_000,
    },
  };
}

/** Variables that have other names too, the first of which is ours. */
const aliases = [
  ["AZURE_SERVICE_BUS_CONNECTION_STRING", "SERVICE_BUS_CONNECTION_STRING", "ServiceBusConnection"],
] as const;

export function serviceBusConnectionString(environment: BrokerEnvironment): string | undefined {
  const { AZURE_SERVICE_BUS_CONNECTION_STRING, SERVICE_BUS_CONNECTION_STRING, ServiceBusConnection } = environment;
  return AZURE_SERVICE_BUS_CONNECTION_STRING ?? SERVICE_BUS_CONNECTION_STRING ?? ServiceBusConnection;
}

/** Reads an environment; a bad value, or two names of one variable that contradict each other, stop the process with their names. */
export function loadEnvironment<Schema extends v.GenericSchema>(
  schema: Schema,
  environment: Record<string, string | undefined>,
): v.InferOutput<Schema> {
  checkAliases(environment);
  return parse(schema, environment, "invalid-configuration");
}

function checkAliases(environment: Record<string, string | undefined>): void {
  for (const names of aliases) {
    const set = names.filter((name) => environment[name] !== undefined);
    if (new Set(set.map((name) => environment[name]?.trim())).size <= 1) continue;
    throw new ContractError("invalid-configuration", [{
      field: set.join(", "),
      message: "are the same setting, with different values",
    }]);
  }
}

/** For a `main.ts`: a process that can't be configured says in one line which variable is at fault, and ends. */
export function loadOrExit<Config>(load: () => Config): Config {
  try {
    return load();
  } catch (error) {
    if (!(error instanceof ContractError)) throw error;
    console.error(error.message);
    process.exit(1);
  }
}

/** The queues of the transports that this environment enables. */
export function readQueues(environment: BrokerEnvironment): ReadonlyMap<TransportName, QueueNames> {
  return new Map(environment.TRANSPORTS.map((name) => [name, defaultQueues[name]]));
}

/** A setting that another one makes necessary. */
export function missingSetting(variable: string, because: string): ContractError {
  return new ContractError("invalid-configuration", [{ field: variable, message: `is missing: ${because}` }]);
}

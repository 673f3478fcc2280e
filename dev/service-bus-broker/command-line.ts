import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import * as v from "valibot";
import { queueStatuses } from "./queue/settings.ts";
import { tiers } from "./queue/tier.ts";
import type { ServiceBusBrokerOptions } from "./start.ts";

export const usage = `npm run service-bus-broker -- [options]

A Service Bus namespace in one process, for development: queues in memory, gone when it ends.

  --port <number>        AMQP; 5672 by default, 0 for a free one
  --admin-port <number>  administration over HTTP; 5300 by default, 0 for a free one
  --host <address>       127.0.0.1 by default; its key is no secret, so think before you change it
  --tier <tier>          ${tiers.join(" or ")}; standard by default
  --queue <name>         makes a queue with default settings; as often as you like
  --queues <file>        makes queues from JSON: {"<name>": {"lockDurationMs": 30000, "maxDeliveryCount": 5, …}, …}
  --help                 this`;

/** What is wrong with the arguments, in a line for each. */
export class ArgumentError extends Error {
  override readonly name = "ArgumentError";
}

const Port = (fallback: number) =>
  v.optional(
    v.pipe(v.string(), v.regex(/^\d{1,5}$/, "must be a number from 0 to 65535"), v.transform(Number), v.maxValue(65_535)),
    String(fallback),
  );
const Positive = v.pipe(v.number(), v.integer(), v.minValue(1));
const Settings = v.strictObject({
  lockDurationMs: v.exactOptional(Positive),
  maxDeliveryCount: v.exactOptional(Positive),
  defaultMessageTimeToLiveMs: v.exactOptional(Positive),
  deadLetteringOnMessageExpiration: v.exactOptional(v.boolean()),
  requiresDuplicateDetection: v.exactOptional(v.boolean()),
  duplicateDetectionHistoryTimeWindowMs: v.exactOptional(Positive),
  maxSizeInMegabytes: v.exactOptional(Positive),
  maxMessageSizeInKilobytes: v.exactOptional(Positive),
  forwardTo: v.exactOptional(v.string()),
  forwardDeadLetteredMessagesTo: v.exactOptional(v.string()),
  status: v.exactOptional(v.picklist(queueStatuses)),
  autoDeleteOnIdleMs: v.exactOptional(Positive),
  enableBatchedOperations: v.exactOptional(v.boolean()),
  userMetadata: v.exactOptional(v.string()),
});
const Queues = v.record(v.string(), Settings);
const Arguments = v.object({
  port: Port(5_672),
  "admin-port": Port(5_300),
  host: v.optional(v.pipe(v.string(), v.minLength(1)), "127.0.0.1"),
  tier: v.optional(v.picklist(tiers, `must be ${tiers.join(" or ")}`), "standard"),
  queue: v.optional(v.array(v.string()), []),
  queues: v.optional(v.string()),
});

/** Throws an ArgumentError; "help" if that is asked for. */
export function parseCommandLine(args: readonly string[]): ServiceBusBrokerOptions | "help" {
  const given = readArguments(args);
  if (given.help) return "help";
  const { port, host, tier, queue, queues, "admin-port": adminPort } = check(Arguments, given, (path) => `--${path}`);
  return {
    port,
    adminPort,
    host,
    tier,
    queues: { ...(queues === undefined ? {} : readQueues(queues)), ...Object.fromEntries(queue.map((name) => [name, {}])) },
  };
}

function readArguments(args: readonly string[]) {
  const text = { type: "string" } as const;
  try {
    return parseArgs({
      args: [...args],
      options: {
        port: text,
        "admin-port": text,
        host: text,
        tier: text,
        queue: { type: "string", multiple: true },
        queues: text,
        help: { type: "boolean" },
      },
    }).values;
  } catch (error) {
    throw new ArgumentError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

function readQueues(file: string): v.InferOutput<typeof Queues> {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new ArgumentError(`--queues ${file} can't be read: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    });
  }
  return check(Queues, json, (path) => `--queues ${file}: ${path}`);
}

function check<Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
  name: (path: string) => string,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  throw new ArgumentError(result.issues.map((issue) => `${name(v.getDotPath(issue) ?? "")}: ${issue.message}`).join("\n"));
}

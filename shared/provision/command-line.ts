import { parseArgs } from "node:util";
import type { Mode } from "./provision.ts";
import { type Tier, tiers } from "./service-bus.ts";

export const usage = `npm run provision -- [options]

Creates the queues that are missing on the transports of TRANSPORTS, and says which others aren't as they should be.

  --check         changes nothing
  --update        also sets what differs, where Service Bus can change it; not while services run
  --tier <tier>   of the Service Bus namespace: ${tiers.join(" or ")}; standard by default, and for Premium
  --json          prints JSON instead of a table
  --help          this

Ends with 0 if all is as wanted, 1 if something is missing or differs, 2 if it was called or configured wrongly, 3 if something failed.`;

/** What is wrong with the arguments. */
export class ArgumentError extends Error {
  override readonly name = "ArgumentError";
}

export interface CommandLine {
  readonly mode: Mode;
  readonly tier: Tier;
  readonly json: boolean;
}

/** Throws an ArgumentError that names the argument; "help" if that is asked for. */
export function parseCommandLine(args: readonly string[]): CommandLine | "help" {
  const { help, check = false, update = false, tier = "standard", json = false } = readArguments(args);
  if (help) return "help";
  if (check && update) throw new ArgumentError("--check changes nothing, --update does: choose one");
  const known = tiers.find((name) => name === tier);
  if (!known) throw new ArgumentError(`--tier must be ${tiers.join(" or ")}`);
  return { mode: check ? "check" : update ? "update" : "create", tier: known, json };
}

function readArguments(args: readonly string[]) {
  const flag = { type: "boolean" } as const;
  try {
    const options = { check: flag, update: flag, tier: { type: "string" }, json: flag, help: flag } as const;
    return parseArgs({ args: [...args], options }).values;
  } catch (error) {
    throw new ArgumentError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

/** npm keeps options for itself that don't stand behind `--`: what was meant as a check would create. */
export function refuseSwallowedOptions(environment: Readonly<Record<string, string | undefined>>): void {
  const swallowed = ["check", "update", "tier"].filter((name) => environment[`npm_config_${name}`] !== undefined);
  if (swallowed.length === 0) return;
  const options = swallowed.map((name) => `--${name}`).join(" ");
  throw new ArgumentError(`npm kept ${options} for itself: options stand behind --, as in npm run provision -- ${options}`);
}

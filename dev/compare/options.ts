import { parseArgs } from "node:util";
import * as v from "valibot";

export const usage = `npm run compare -- [options]

  --quick           the smallest sizes, once
  --only=JOB_TYPE   hello_world or list_container alone
  --runs=N          of each job on each pipeline; their median counts (3)
  --azure           on the namespace and the account that the environment names, not on emulators
  --output=FILE     where the results go; by default docs/service-bus-results.md, if the whole matrix ran
`;

const Options = v.object({
  quick: v.optional(v.boolean(), false),
  only: v.optional(v.picklist(["hello_world", "list_container"])),
  runs: v.optional(
    v.pipe(v.string(), v.regex(/^\d+$/, "must be a whole number"), v.transform(Number), v.minValue(1), v.maxValue(100)),
  ),
  azure: v.optional(v.boolean(), false),
  output: v.optional(v.pipe(v.string(), v.minLength(1))),
  help: v.optional(v.boolean(), false),
});

const defaultRuns = (quick: boolean) => quick ? 1 : 3;

export interface CompareOptions {
  readonly quick: boolean;
  readonly only: "hello_world" | "list_container" | undefined;
  readonly runs: number;
  readonly azure: boolean;
  /** Undefined: nothing is written. */
  readonly output: string | undefined;
}

/** Throws a TypeError or a ValiError that says which option is at fault. */
export function parseOptions(args: readonly string[]): CompareOptions | "help" {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: "boolean" },
      only: { type: "string" },
      runs: { type: "string" },
      azure: { type: "boolean" },
      output: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  const { quick, only, runs = defaultRuns(quick), azure, output, help } = v.parse(Options, values);
  if (help) return "help";
  const isWhole = !quick && only === undefined;
  return { quick, only, runs, azure, output: output ?? (isWhole ? "docs/service-bus-results.md" : undefined) };
}

/** The command that measures the same. */
export function describeCommand({ runs, azure, quick, only }: CompareOptions): string {
  const args = [
    ...(quick ? ["--quick"] : []),
    ...(only ? [`--only=${only}`] : []),
    ...(azure ? ["--azure"] : []),
    ...(runs === defaultRuns(quick) ? [] : [`--runs=${runs}`]),
  ];
  return ["npm run compare", ...(args.length > 0 ? ["--", ...args] : [])].join(" ");
}

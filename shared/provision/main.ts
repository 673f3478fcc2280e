import { PermanentError } from "../errors.ts";
import { ArgumentError, type CommandLine, parseCommandLine, refuseSwallowedOptions, usage } from "./command-line.ts";
import { adviseServices, loadConfig } from "./config.ts";
import { openTargets } from "./open-targets.ts";
import { provision } from "./provision.ts";
import { exitCodeOf, formatReport } from "./report.ts";

try {
  refuseSwallowedOptions(process.env);
  const commandLine = parseCommandLine(process.argv.slice(2));
  if (commandLine === "help") console.log(usage);
  else end(...await run(commandLine));
} catch (error) {
  if (!(error instanceof ArgumentError || error instanceof PermanentError)) throw error;
  console.error(error instanceof ArgumentError ? `${error.message}\n\n${usage}` : error.message);
  process.exitCode = 2;
}

async function run({ mode, tier, json }: CommandLine): Promise<[report: string, exitCode: number]> {
  const config = loadConfig(process.env);
  const findings = await provision(openTargets(config, tier), mode);
  const exitCode = exitCodeOf(findings);
  const note = adviseServices(config, tier);
  if (json) return [JSON.stringify({ mode, tier, exitCode, findings, note }, null, 2), exitCode];
  return [formatReport(findings, mode) + (note ? `\n\n${note}` : ""), exitCode];
}

/** Without waiting for what still hangs: a connection that isn't answered is no reason to stay. */
function end(report: string, exitCode: number): void {
  process.stdout.write(`${report}\n`, () => process.exit(exitCode));
}

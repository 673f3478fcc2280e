import { BrokerEnvironment, loadEnvironment } from "../environment.ts";
import { PermanentError } from "../errors.ts";
import { ArgumentError, type CommandLine, parseCommandLine, refuseSwallowedOptions, usage } from "./command-line.ts";
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
  const targets = openTargets(loadEnvironment(BrokerEnvironment, process.env), tier);
  const findings = await provision(targets, mode);
  const exitCode = exitCodeOf(findings);
  return [json ? JSON.stringify({ mode, tier, exitCode, findings }, null, 2) : formatReport(findings, mode), exitCode];
}

/** Without waiting for what still hangs: a connection that isn't answered is no reason to stay. */
function end(report: string, exitCode: number): void {
  process.stdout.write(`${report}\n`, () => process.exit(exitCode));
}

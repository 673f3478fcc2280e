// Runs seeds from the command line, with all guards or without one:
//   node test/simulation/search.ts FROM [TO] [RULE…] [--focus NAME] [--guards] [--stop] [--trace]
// RULE is how the name of a guard begins, --guards means all of them in turn; NAME is one of focuses.ts; --stop ends at the first violation.
import { parseArgs } from "node:util";
import { openDatabase } from "../../shared/store/database.ts";
import { migrate } from "../../shared/store/migrate.ts";
import { startPostgres } from "../support/postgres.ts";
import { focuses } from "./focuses.ts";
import { type Guard, guards } from "./guards.ts";
import { createSimulationDatabase } from "./simulated-database.ts";
import { simulate } from "./simulate.ts";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    focus: { type: "string", default: "none" },
    guards: { type: "boolean" },
    stop: { type: "boolean" },
    trace: { type: "boolean" },
  },
});
const [from = "1", to = from, ...rules] = positionals;
const focus = focuses[values.focus] ?? {};
if (!(values.focus in focuses)) throw new Error(`no focus ${values.focus}; there are ${Object.keys(focuses).join(", ")}`);
const without: readonly (Guard | null)[] = values.guards
  ? guards
  : rules.length > 0
  ? guards.filter(({ rule }) => rules.some((begin) => rule.startsWith(begin)))
  : [null];

const server = await startPostgres();
try {
  const admin = openDatabase(server.url, { applicationName: "tests", max: 1 });
  await admin`create database sluice_template`;
  await admin.end();
  const template = openDatabase(new URL("/sluice_template", server.url).href, { applicationName: "tests", max: 1 });
  await migrate(template);
  await template.end();
  for (const [position, guard] of without.entries()) await searchWithout(guard, `search_${position}`);
} finally {
  await server.stop();
}

async function searchWithout(guard: Guard | null, databaseName: string): Promise<void> {
  const database = await createSimulationDatabase(server.url, databaseName, guard?.ddl);
  const startedAt = performance.now();
  const found: number[] = [];
  const ended = new Map<string, number>();
  let steps = 0;
  for (let seed = Number(from); seed <= Number(to) && !(values.stop && found.length > 0); seed++) {
    const run = await simulate({ focus, ...guard, seed, database });
    steps += run.steps;
    for (const status of run.jobs) ended.set(status, (ended.get(status) ?? 0) + 1);
    if (values.trace) console.log(run.trace.join("\n"));
    for (const problem of run.unmatched) console.log(`seed ${seed} matches ${problem}`);
    if (!guard && run.refusals.length > 0) console.log(`seed ${seed}: refused: ${run.refusals.join("; ")}`);
    const [violation] = run.violations;
    const isFound = guard ? run.violations.some((text) => guard.finds.test(text)) : violation !== undefined;
    if (isFound) found.push(seed);
    if (violation) {
      console.log(`seed ${seed}, ${run.steps} steps, ${run.virtualSeconds} s: ${isFound ? "" : "ALSO "}${violation}`);
    }
  }
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  console.log(
    `${guard?.rule ?? "all guards"}: ${found.length} of seeds ${from} to ${to} (${
      found.join(" ")
    }), ${steps} steps, ${seconds} s`,
  );
  console.log(Object.fromEntries(ended));
  await database.drop();
}

import { formatTable } from "../table.ts";
import type { Finding, Mode, Outcome } from "./provision.ts";
import type { Remedy } from "./target.ts";

/** 3: something failed. 1: something is missing, or differs. */
export function exitCodeOf(findings: readonly Finding[]): 0 | 1 | 3 {
  const outcomes = new Set(findings.map(({ outcome }) => outcome));
  if (outcomes.has("failed")) return 3;
  return outcomes.has("missing") || outcomes.has("different") ? 1 : 0;
}

/** A row for each setting that differs or was set, and one for every other queue; below it, why something failed. */
export function formatReport(findings: readonly Finding[], mode: Mode): string {
  const table = formatTable(
    ["transport", "queue", "what", "wanted", "found", "what to do"],
    findings.flatMap((finding) => rowsOf(finding, mode)).map((row) => row.map(trimmed)),
  );
  const causes = groupCauses(findings).map((line) => `\n${line}`);
  return [table, ...causes, `\n${summarize(findings)}`].join("\n").replaceAll(/ +$/gm, "");
}

function rowsOf({ target, resource, outcome, differences, updated }: Finding, mode: Mode): readonly (readonly string[])[] {
  const settings = [
    ...updated.map(({ setting, wanted, found }) => [target, resource, setting, wanted, `${found}, now ${wanted}`, ""]),
    ...differences.map(({ setting, wanted, found, remedy }) => [target, resource, setting, wanted, found, remedies[remedy]]),
  ];
  if (settings.length > 0) return settings;
  const found = { "as wanted": "there", failed: "failed: see below", different: "different" } as Partial<Record<Outcome, string>>;
  const todo = outcome === "missing" && mode === "check" ? "run it without --check" : "";
  return [[target, resource, "", "there", found[outcome] ?? outcome, todo]];
}

const remedies: Readonly<Record<Remedy, string>> = {
  update: "--update sets it",
  recreate: "can't be changed: delete the queue, and run it again",
  configure: "set it in the broker's configuration",
};

/** The same cause once, with all that it kept from happening. */
function groupCauses(findings: readonly Finding[]): readonly string[] {
  const failed = Map.groupBy(
    findings.filter(({ cause }) => cause !== undefined),
    ({ target, cause }) => `${target}\n${cause}`,
  );
  return [...failed.values()].map((group) => {
    const names = group.map(({ resource }) => resource).join(", ");
    return `FAILED ${group[0]?.target}, ${names}: ${group[0]?.cause}`;
  });
}

function summarize(findings: readonly Finding[]): string {
  const outcomes: readonly Outcome[] = ["as wanted", "created", "updated", "missing", "different", "failed"];
  const counts = outcomes.map((outcome) => ({
    outcome,
    count: findings.filter((finding) => finding.outcome === outcome).length,
  }));
  return counts.filter(({ count }) => count > 0).map(({ outcome, count }) => `${count} ${outcome}`).join(", ");
}

function trimmed(text: string): string {
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}

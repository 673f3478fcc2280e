import type { Reporter, TestModule } from "vitest/node";

/** Says loudly what was skipped; where `CI` is set, a skipped test is a failure. */
export default class SkipReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const skipped = modules.flatMap((module) =>
      [...module.children.allTests("skipped")].map((test) => `${module.relativeModuleId}: ${test.fullName}`)
    );
    if (skipped.length === 0) return;
    console.warn(`\nSKIPPED ${skipped.length}:\n${skipped.map((name) => `  ${name}`).join("\n")}`);
    if (process.env.CI) {
      console.error("A skipped test is a failure where CI is set.");
      process.exitCode = 1;
    }
  }
}

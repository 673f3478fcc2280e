import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

const long = process.env.SLUICE_LONG_TESTS === "true";

/** The longest first, so that no worker is left with one of them at the end. */
const longest = [
  "test/crash/",
  "test/simulation/guards",
  "test/simulation/",
  "test/poison/cruel",
  "test/poison/reconcile-healthy",
  "test/pipeline/hello-world",
  "test/pipeline/",
  "test/demo/",
];
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const found = longest.findIndex((part) => moduleId.includes(part));
      return found === -1 ? longest.length : found;
    };
    return files.toSorted((a, b) => rank(a) - rank(b) || a.moduleId.localeCompare(b.moduleId));
  }
}

export default defineConfig({
  test: {
    include: long ? ["**/*.long.test.ts"] : ["**/*.test.ts"],
    exclude: ["node_modules/**", ...(long ? [] : ["**/*.long.test.ts"])],
    globalSetup: "test/support/global-setup.ts",
    pool: "forks",
    maxWorkers: 4, // of two cores: many tests wait for leases and locks most of the time
    sequence: { sequencer: LongestFirst },
    testTimeout: long ? 3_600_000 : 120_000,
    hookTimeout: 120_000,
    reporters: ["default", "./test/support/skip-reporter.ts"],
  },
});

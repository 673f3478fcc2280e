import { rm } from "node:fs/promises";
import { describeLogTails } from "../stack/describe-log-tails.ts";
import type { StackSettings } from "../stack/settings.ts";
import { createStack, type Stack } from "../stack/stack.ts";
import type { Progress } from "./progress.ts";

const tailLines = 15;

/**
 * Works with a stack that is thrown away afterwards; the work starts it. If the work throws, or resolves to what it found wrong, that
 * and the ends of the logs are printed, and the exit code is 1; 130 if it was stopped.
 */
export async function withStack(
  { name, settings, progress, signal }: {
    readonly name: string;
    readonly settings: StackSettings;
    readonly progress: Progress;
    readonly signal: AbortSignal;
  },
  work: (stack: Stack) => Promise<readonly string[]>,
): Promise<void> {
  const beganAt = performance.now();
  const stack = createStack(settings, progress.say);
  const describeLogs = () => describeLogTails(stack.logTails(tailLines));
  try {
    const problems = await work(stack);
    const took = ((performance.now() - beganAt) / 1000).toFixed(0);
    if (problems.length === 0) console.log(`The ${name} took ${took} s.`);
    else {
      console.error(`${problems.join("\n")}\n\n${describeLogs()}\n\nThe ${name} failed after ${took} s.`);
      process.exitCode = 1;
    }
  } catch (error) {
    progress.stop();
    if (signal.aborted) process.exitCode = 130;
    else {
      console.error(`\n${describeLogs()}`);
      console.error(`\nThe ${name} failed:`, error);
      process.exitCode = 1;
    }
  } finally {
    await stack.stop();
    await rm(settings.stateDirectory, { recursive: true, force: true, maxRetries: 5 });
  }
}

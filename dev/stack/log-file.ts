import { createWriteStream, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import * as v from "valibot";

const LogLine = v.object({
  level: v.number(),
  msg: v.optional(v.string(), ""),
  err: v.optional(v.object({ message: v.optional(v.string(), "") })),
  problem: v.optional(v.string()),
});
const warn = 40;
const repeatMs = 10_000;

/** All that a process says, in a file. */
export interface LogFile {
  readonly path: string;
  /** Keeps the lines of a stream. Those at level warn and above, and those that aren't JSON, are alarms. */
  follow(stream: Readable): void;
  /** The last lines. */
  tail(lines: number): readonly string[];
  close(): Promise<void>;
}

/** Begins a new file. `onLine` gets every line; `onAlarm` what somebody should see, the same thing every ten seconds at most. */
export function openLogFile(
  path: string,
  { onLine, onAlarm }: { readonly onLine: (line: string) => void; readonly onAlarm: (text: string) => void },
): LogFile {
  const file = createWriteStream(path, { flags: "w" });
  file.on("error", () => {}); // a full disk ends the log, not the stack
  const alarms = new Map<string, number>();
  return {
    path,
    follow(stream) {
      stream.on("error", () => {});
      createInterface({ input: stream }).on("line", (line) => {
        file.write(`${line}\n`);
        onLine(line);
        const alarm = describeAlarm(line);
        const now = Date.now();
        if (!alarm || now - (alarms.get(alarm) ?? 0) < repeatMs) return;
        alarms.set(alarm, now);
        onAlarm(alarm);
      });
    },
    tail(lines) {
      try {
        return readFileSync(path, "utf8").trimEnd().split("\n").slice(-lines);
      } catch {
        return [];
      }
    },
    close: () => new Promise((resolve) => file.end(resolve)),
  };
}

function describeAlarm(line: string): string | undefined {
  if (!line.startsWith("{")) return line.trim() || undefined;
  const parsed = v.safeParse(LogLine, parseJson(line));
  if (!parsed.success) return line;
  const { level, msg, err, problem } = parsed.output;
  if (level < warn) return undefined;
  return [level > warn ? "ERROR" : "WARN", msg, err?.message || problem].filter(Boolean).join(" · ");
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

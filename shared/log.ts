import { randomBytes } from "node:crypto";
import { type Logger, pino } from "pino";
import pretty from "pino-pretty";

export const logLevels = ["trace", "debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof logLevels)[number];

/** Structured lines on stdout; pretty ones on a terminal. Whoever logs passes ids, sizes and hashes, never bodies. */
export function createLogger(service: string, level: LogLevel): Logger {
  const options = { level, base: { service, pid: process.pid }, timestamp: () => `,"time":"${new Date().toISOString()}"` };
  return process.stdout.isTTY ? pino(options, pretty({ sync: true })) : pino(options);
}

/** A short id that no other process start has: of a runner, an orchestrator, a request. */
export function createId(prefix: string): string {
  return `${prefix}-${randomBytes(6).toString("hex")}`;
}

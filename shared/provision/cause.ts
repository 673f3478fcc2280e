import { TimeLimitError } from "../time-limit.ts";
import type { Target } from "./target.ts";

/** What a connection failed with, by the code of the system's error. */
const connectionCauses: Readonly<Record<string, string>> = {
  ENOTFOUND: "no such name in DNS: the name is wrong, or there is no network",
  EAI_AGAIN: "DNS doesn't answer: there is no network, or the name is wrong",
  ECONNREFUSED: "the connection was refused: nothing listens there, or a firewall is in between",
  ECONNRESET: "the connection was cut",
  EPIPE: "the connection was cut",
  ETIMEDOUT: "the connection timed out: a firewall is in between, or it is down",
  EHOSTUNREACH: "there is no way to that host",
  ENETUNREACH: "there is no network",
};

/** Of DefaultAzureCredential. */
const credentialErrors = new Set(["AggregateAuthenticationError", "AuthenticationError", "CredentialUnavailableError"]);

/** Why something failed at a target: one line that names the cause, without a stack and without secrets. */
export function describeCause(thrown: unknown, { place, explain }: Pick<Target, "place" | "explain">): string {
  const error = innermost(thrown);
  if (error instanceof TimeLimitError) return `${place}: ${error.message}`;
  if (credentialErrors.has(error.name)) return `${place}: signing in failed: ${describeSignIn(error)}`;
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  const connectionCause = connectionCauses[code];
  const cause = connectionCause ? `${connectionCause} (${code})` : explain(error) ?? firstLine(error);
  return `${place}: ${cause}`;
}

/** What was tried several times, or at several addresses, failed for the last of several reasons. */
function innermost(thrown: unknown): Error {
  if (thrown instanceof AggregateError && thrown.errors.length > 0) return innermost(thrown.errors.at(-1));
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** The ways to sign in that aren't set up here say so; one that is, and was refused, says more. */
function describeSignIn(error: Error): string {
  const tried: readonly unknown[] = "errors" in error && Array.isArray(error.errors) ? error.errors : [error];
  const refused = tried.find((each) => each instanceof Error && each.name !== "CredentialUnavailableError");
  if (refused instanceof Error) return firstLine(refused);
  return "DefaultAzureCredential found no identity here (workload identity, managed identity, az login)";
}

/** Azure's texts have lines of ids for its support behind the first one. */
export function firstLine(error: Error): string {
  return error.message.split("\n", 1)[0]?.replace(/\.? ?TrackingId:.*$/, "").trim() || error.name;
}

/** Of the HTTP answer that the SDK made an error of. */
export function statusOf(error: Error): number | undefined {
  return "statusCode" in error && typeof error.statusCode === "number" ? error.statusCode : undefined;
}

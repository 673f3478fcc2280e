import type { Context } from "hono";
import { ContractError } from "../../shared/contracts/parse.ts";

/** Who asks for a change, for the audit log: as the header `X-Operator` says, or else where the request comes from. */
export function readOperator(context: Context, remoteAddress: string | undefined): string {
  const named = context.req.header("x-operator");
  if (named === undefined) return remoteAddress ?? "unknown";
  if (!/^[\x20-\x7e]{1,200}$/.test(named)) {
    throw new ContractError("invalid-message", [{ field: "X-Operator", message: "must be 1 to 200 visible ASCII characters" }]);
  }
  return named;
}

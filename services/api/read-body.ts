import type { Context } from "hono";
import { ContractError, readJson } from "../../shared/contracts/parse.ts";

/** The body as JSON, whatever its content type says: `curl -d` says it is a form. An empty one is `{}`. */
export async function readBody(context: Context): Promise<unknown> {
  const bytes = await context.req.arrayBuffer();
  const text = decode(bytes);
  return text.trim() === "" ? {} : readJson(text);
}

function decode(bytes: ArrayBuffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new ContractError("invalid-message", [{ field: "", message: "is not UTF-8" }]);
  }
}

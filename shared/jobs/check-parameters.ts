import { isStorableJson, type JsonObject, parse } from "../contracts/parse.ts";
import { PermanentError } from "../errors.ts";
import type { TaskDefinition } from "./define-task.ts";

const maxParametersBytes = 65_536;

/**
 * Parameters of a task as its type's schema reads them, and their size as JSON. Throws PermanentError `contract-violation`, naming
 * the task as `what`, if they break the schema, can't be stored, or are too large.
 */
export function checkParameters(task: TaskDefinition, what: string, value: unknown): { parameters: JsonObject; bytes: number } {
  const parameters = parse(task.params, value, "contract-violation") as JsonObject;
  const json = JSON.stringify(parameters);
  if (!isStorableJson(json)) {
    throw new PermanentError("contract-violation", `parameters of ${what} contain U+0000 or half a surrogate pair`);
  }
  const bytes = Buffer.byteLength(json);
  if (bytes > maxParametersBytes) {
    throw new PermanentError("contract-violation", `parameters of ${what} are larger than ${maxParametersBytes} bytes`);
  }
  return { parameters, bytes };
}

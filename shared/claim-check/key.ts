import { PermanentError } from "../errors.ts";

/** The key as a path that is the same on every store: each segment escaped, none of them empty, `.` or `..`. */
export function pathOfKey(key: string): string {
  if (!isPlainPath(key)) throw new PermanentError("contract-violation", `${key} is not a key of the claim check`);
  return key.split("/").map(encodeURIComponent).join("/");
}

export function isPlainPath(path: string): boolean {
  return !path.split("/").some((segment) => segment === "" || segment === "." || segment === "..");
}

export function unknownRef(ref: string, cause?: unknown): PermanentError {
  return new PermanentError("unknown-task", `nothing is stored at ${ref}`, { cause });
}

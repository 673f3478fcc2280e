import { createHmac, timingSafeEqual } from "node:crypto";
import { Refusal, unauthorized } from "./queue/refusal.ts";
import type { Right, SharedAccessKeys } from "./shared-access-key.ts";

export interface Claim {
  readonly rights: readonly Right[];
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

/** What the token of a shared access key allows on a queue (`""`: on the namespace). Throws a Refusal. */
export function checkSasToken(token: string, queue: string, { keys, now }: { keys: SharedAccessKeys; now: number }): Claim {
  const fields = new Map(
    token.replace(/^SharedAccessSignature\s+/, "").split("&").map((field) => {
      const at = field.indexOf("=");
      return [field.slice(0, at), field.slice(at + 1)];
    }),
  );
  const resource = fields.get("sr") ?? "";
  const expiry = fields.get("se");
  if (expiry === undefined) throw new Refusal("amqp:internal-error", 500, "The token has no expiry.");
  const keyName = decodeURIComponent(fields.get("skn") ?? "");
  const key = Object.hasOwn(keys, keyName) ? keys[keyName] : undefined;
  const signature = createHmac("sha256", key?.key ?? "").update(`${resource}\n${expiry}`).digest();
  const given = Buffer.from(decodeURIComponent(fields.get("sig") ?? ""), "base64");
  if (!key || given.length !== signature.length || !timingSafeEqual(given, signature)) {
    throw unauthorized("InvalidSignature: The token has an invalid signature.");
  }
  const expiresAt = Number(expiry) * 1_000;
  if (!(expiresAt > now)) throw unauthorized("ExpiredToken: The token is expired.");
  const audience = entityOf(decodeURIComponent(resource));
  if (!covers(audience, queue) || (key.queue !== undefined && !covers(key.queue.toLowerCase(), queue))) {
    throw unauthorized("InvalidAudience: The authorization token is for another resource.");
  }
  return { rights: key.rights, expiresAt };
}

/** The path in an address such as `sb://localhost:5672/orders/$management`, in lower case and without that last part. */
export function entityOf(address: string): string {
  return address
    .toLowerCase()
    .replace(/\?.*$/, "")
    .replace(/^[a-z]+:\/\/[^/]*\/?/, "")
    .replace(/\/?\$management$/, "")
    .replace(/\/+$/, "");
}

function covers(audience: string, queue: string): boolean {
  return audience === "" || queue === audience || queue.startsWith(`${audience}/`);
}

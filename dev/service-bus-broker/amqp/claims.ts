import { unauthorized } from "../queue/refusal.ts";
import { type Claim, entityOf } from "../sas-token.ts";
import { includesRight, type Right } from "../shared-access-key.ts";
import { queueNameOf } from "./address.ts";

/** What the tokens of a connection allow. */
export interface Claims {
  put(entity: string, claim: Claim): void;
  has(right: Right, address: string, now: number): boolean;
  /** Throws a Refusal if the right is missing or its token expired. */
  need(right: Right, address: string, now: number): void;
}

export function createClaims(host: () => string): Claims {
  const claims = new Map<string, Claim>();
  const has = (right: Right, address: string, now: number) => {
    const claim = claims.get(entityOf(address)) ?? claims.get(queueNameOf(address)) ?? claims.get("");
    return claim !== undefined && claim.expiresAt > now && includesRight(claim.rights, right);
  };
  return {
    put: (entity, claim) => void claims.set(entity, claim),
    has,
    need(right, address, now) {
      if (has(right, address, now)) return;
      const entity = entityOf(address);
      throw unauthorized(
        `Unauthorized access. '${right}' claim(s) are required to perform this operation. Resource: 'sb://${host()}/${entity}'.`,
      );
    },
  };
}

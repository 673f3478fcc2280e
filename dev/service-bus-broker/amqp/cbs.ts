import { entityNotFound, Refusal, unauthorized } from "../queue/refusal.ts";
import { checkSasToken, type Claim, entityOf } from "../sas-token.ts";
import { queueNameOf } from "./address.ts";
import type { Broker } from "./broker.ts";
import type { Claims } from "./claims.ts";
import type { Reply, Request } from "./reply.ts";

/** Takes the token of a connection for an entity. Authorization comes before existence: who may not look isn't told what is there. */
export function putToken({ keys, namespace, clock }: Broker, claims: Claims, request: Request): Reply {
  const { operation, name, type } = request.application_properties ?? {};
  if (operation !== "put-token") throw new Refusal("amqp:not-implemented", 400, `$cbs doesn't know the operation ${operation}.`);
  const address = String(name);
  const token = String(request.body);
  const claim = type === "jwt" ? checkJwt(token) : checkSasToken(token, entityOf(address), { keys, now: clock.now() });
  const queue = queueNameOf(address);
  if (queue !== "" && !namespace.find(queue)) throw entityNotFound(address.replace(/\/\$management$/i, ""));
  claims.put(entityOf(address), claim);
  return { status: 202, description: "Accepted" };
}

/** Whoever has one may do everything: there is nobody here to ask whose it is. */
function checkJwt(token: string): Claim {
  if (token === "") throw unauthorized("InvalidToken: The token is empty.");
  return { rights: ["Manage"], expiresAt: Infinity };
}

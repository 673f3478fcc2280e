import rhea, { type Sender } from "rhea";
import { Refusal } from "../queue/refusal.ts";
import { deliveryInternals } from "./rhea-internals.ts";

/** A request as it comes to `$cbs` and `$management`. */
export interface Request {
  readonly message_id?: unknown;
  readonly reply_to?: unknown;
  readonly application_properties?: Readonly<Record<string, unknown>>;
  readonly body?: unknown;
}

export interface Reply {
  readonly status: number;
  readonly description: string;
  readonly condition?: string;
  readonly body?: unknown;
}

/** Both speak of status, condition and description, each in its own spelling. */
export const spellings = {
  cbs: { status: "status-code", description: "status-description", condition: "error-condition" },
  management: { status: "statusCode", description: "statusDescription", condition: "errorCondition" },
} as const;

export function sendReply(
  link: Sender,
  request: Request,
  { status, description, condition, body }: Reply,
  spelling: (typeof spellings)[keyof typeof spellings],
): void {
  const properties = {
    [spelling.status]: rhea.types.wrap_int(status),
    [spelling.description]: description,
    ...(condition !== undefined && { [spelling.condition]: rhea.types.wrap_symbol(condition) }),
  };
  const reply = { correlation_id: request.message_id, application_properties: properties, body: body ?? null };
  deliveryInternals(link.send(rhea.message.encode(reply), undefined, 0)).settled = true;
}

/** A Refusal as it is; anything else is a mistake of ours, and said to be one. */
export function refusalReply(error: unknown): Reply {
  if (error instanceof Refusal) return { status: error.status, condition: error.condition, description: error.message };
  return { status: 500, condition: "amqp:internal-error", description: `The broker failed: ${error}` };
}

import rhea from "rhea";
import type { LockedMessage, QueueMessage } from "../queue/message.ts";
import { refuseToReceive } from "../queue/namespace.ts";
import { Refusal } from "../queue/refusal.ts";
import type { Subqueue } from "../queue/subqueue.ts";
import { type Addressed, resolve } from "./address.ts";
import type { Broker } from "./broker.ts";
import type { Claims } from "./claims.ts";
import { type AmqpContent, parseContent } from "./content.ts";
import { deadLetterReason } from "./delivering-link.ts";
import { encodeMessage } from "./encode-message.ts";
import { uuidOf } from "./lock-token.ts";
import type { Reply, Request } from "./reply.ts";

type Body = Readonly<Record<string, unknown>>;
type Operation = (to: Addressed<AmqpContent>, body: Body, now: number) => Omit<Reply, "status" | "description"> | "no content";

const { wrap_array, wrap_uuid } = rhea.types;
const arrayOf = (values: readonly unknown[], code: number) => wrap_array(values, code, undefined);
const longCode = 0x81;
const timestampCode = 0x83;

/** What can be asked of `<queue>/$management`. */
const operations: Readonly<Record<string, { right: "Send" | "Listen"; run: Operation }>> = {
  "com.microsoft:renew-lock": {
    right: "Listen",
    run({ subqueue }, body, now) {
      const until = lockTokensOf(body).map((lockToken) => subqueue.renewLock(lockToken, now));
      return { body: { expirations: arrayOf(until, timestampCode) } };
    },
  },
  "com.microsoft:schedule-message": {
    right: "Send",
    run({ queue }, body, now) {
      const contents = listOf(body.messages).map((entry) => parseContent(bytesOf(recordOf(entry).message)));
      return { body: { "sequence-numbers": arrayOf(queue.send(contents, now), longCode) } };
    },
  },
  "com.microsoft:cancel-scheduled-message": {
    right: "Send",
    run({ subqueue }, body) {
      subqueue.cancelScheduled(sequenceNumbersOf(body));
      return {};
    },
  },
  "com.microsoft:peek-message": {
    right: "Listen",
    run({ subqueue }, body) {
      const messages = subqueue.peek(numberOf(body["from-sequence-number"]), numberOf(body["message-count"]));
      if (messages.length === 0) return "no content";
      return { body: { messages: messages.map((message) => ({ message: encodeMessage(message) })) } };
    },
  },
  "com.microsoft:receive-by-sequence-number": {
    right: "Listen",
    run({ queue, subqueue }, body, now) {
      refuseToReceive(queue, subqueue);
      const peekLock = numberOf(body["receiver-settle-mode"]) === 1;
      const numbers = sequenceNumbersOf(body);
      const messages = peekLock
        ? subqueue.receiveDeferred(numbers, now).map(lockedEntry)
        : subqueue.takeDeferred(numbers, now).map((message: QueueMessage<AmqpContent>) => ({ message: encodeMessage(message) }));
      return { body: { messages } };
    },
  },
  "com.microsoft:update-disposition": {
    right: "Listen",
    run({ subqueue }, body, now) {
      for (const lockToken of lockTokensOf(body)) settle(subqueue, lockToken, body, now);
      return {};
    },
  },
};

/** Throws a Refusal. */
export function manage(broker: Broker, claims: Claims, address: string, request: Request): Reply {
  const name = String(request.application_properties?.operation);
  const operation = Object.hasOwn(operations, name) ? operations[name] : undefined;
  if (!operation) throw new Refusal("amqp:not-implemented", 501, `$management doesn't know the operation ${name}.`);
  const now = broker.clock.now();
  claims.need(operation.right, address, now);
  const refusal = broker.faults.refusalOfRequest();
  if (refusal) throw refusal;
  const addressed = resolve(broker.namespace, address, broker.host());
  addressed.queue.times.accessedAt = now;
  const answer = operation.run(addressed, recordOf(request.body), now);
  return answer === "no content" ? { status: 204, description: "NoContent" } : { status: 200, description: "OK", ...answer };
}

function lockedEntry({ message, lockToken, lockedUntil }: LockedMessage<AmqpContent>) {
  return { message: encodeMessage(message, lockedUntil), "lock-token": wrap_uuid(uuidOf(lockToken)) };
}

function settle(subqueue: Subqueue<AmqpContent>, lockToken: string, body: Body, now: number): void {
  const changes = body["properties-to-modify"] == null ? undefined : recordOf(body["properties-to-modify"]);
  switch (body["disposition-status"]) {
    case "completed":
      return subqueue.complete(lockToken, now);
    case "abandoned":
      return subqueue.abandon(lockToken, now, changes);
    case "defered": // as Azure spells it
      return subqueue.defer(lockToken, now, changes);
    case "suspended":
      return subqueue.deadLetter(lockToken, now, {
        ...deadLetterReason({
          ...changes,
          DeadLetterReason: body["deadletter-reason"],
          DeadLetterErrorDescription: body["deadletter-description"],
        }),
      });
    default:
      throw badRequest(`'${body["disposition-status"]}' is no disposition status.`);
  }
}

function lockTokensOf(body: Body): string[] {
  return listOf(body["lock-tokens"]).map((token) => bytesOf(token).toString("hex"));
}

function sequenceNumbersOf(body: Body): number[] {
  return listOf(body["sequence-numbers"]).map(numberOf);
}

/** rhea gives a long as a number, or as its bytes where a number can't hold it. */
function numberOf(value: unknown): number {
  if (typeof value === "number") return value;
  if (Buffer.isBuffer(value)) return Number(value.readBigInt64BE());
  throw badRequest(`${value} is no number.`);
}

function bytesOf(value: unknown): Buffer {
  if (Buffer.isBuffer(value)) return value;
  throw badRequest(`${value} is no binary value.`);
}

function listOf(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw badRequest(`${value} is no list.`);
}

function recordOf(value: unknown): Body {
  if (typeof value === "object" && value !== null) return { ...value };
  throw badRequest(`${value} is no map.`);
}

function badRequest(description: string): Refusal {
  return new Refusal("com.microsoft:argument-error", 400, description);
}

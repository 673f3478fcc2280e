/** The broker won't do what it was asked. The condition is what AMQP calls it, the status what HTTP and `$management` do. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly condition: string;
  readonly status: number;
  constructor(condition: string, status: number, description: string) {
    super(description);
    this.condition = condition;
    this.status = status;
  }
}

export const lockLost = () =>
  new Refusal(
    "com.microsoft:message-lock-lost",
    410,
    "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue.",
  );

export const messageTooLarge = (bytes: number, maxBytes: number) =>
  new Refusal(
    "amqp:link:message-size-exceeded",
    403,
    `The received message (size:${bytes} bytes) exceeds the limit (${maxBytes} bytes) currently allowed on the link.`,
  );

export const queueFull = (queue: string, bytes: number, maxBytes: number) =>
  new Refusal(
    "amqp:resource-limit-exceeded",
    403,
    `The maximum entity size has been reached or exceeded for Queue: '${queue}'. ` +
      `Size of entity in bytes:${bytes}, Max entity size in bytes: ${maxBytes}.`,
  );

export const deferredNotFound = () =>
  new Refusal(
    "com.microsoft:message-not-found",
    404,
    "Failed to lock one or more specified messages. Either the message is already locked or does not exist.",
  );

export const scheduledNotFound = (sequenceNumbers: readonly number[]) =>
  new Refusal(
    "com.microsoft:message-not-found",
    404,
    `Messages not found. Missing sequence numbers: ${sequenceNumbers.join(", ")}`,
  );

export const notAllowed = (description: string) => new Refusal("amqp:not-allowed", 400, description);

export const entityNotFound = (address: string) =>
  new Refusal(
    "amqp:not-found",
    404,
    `The messaging entity '${address}' could not be found. To know more visit https://aka.ms/sbResourceMgrExceptions.`,
  );

export const entityDisabled = (queue: string) =>
  new Refusal("com.microsoft:entity-disabled", 400, `The messaging entity '${queue}' is currently disabled.`);

export const unauthorized = (description: string) => new Refusal("amqp:unauthorized-access", 401, description);

export const throttled = () =>
  new Refusal(
    "com.microsoft:server-busy",
    503,
    "The request was terminated because the entity is being throttled. Error code: 50009. Please wait 2 seconds and try again.",
  );

import type { Queue } from "../queue/queue.ts";
import { Refusal } from "../queue/refusal.ts";
import { type QueueSettings, type QueueStatus, queueStatuses } from "../queue/settings.ts";
import { formatDuration, parseDuration } from "./duration.ts";
import { escapeXml, unescapeXml } from "./escape-xml.ts";

const schema = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect";
const countSchema = "http://schemas.microsoft.com/netservices/2011/06/servicebus";

/** The elements in the order in which Azure has them. */
export function describeQueue(queue: Queue<unknown>, origin: string): string {
  const { settings, times } = queue;
  const { active, scheduled, deadLettered } = queue.counts();
  const url = (target: string) => `sb://${new URL(origin).host}/${target.toLowerCase()}`;
  const elements: readonly (readonly [string, string | number | boolean | undefined])[] = [
    ["LockDuration", formatDuration(settings.lockDurationMs)],
    ["MaxSizeInMegabytes", settings.maxSizeInMegabytes],
    ["RequiresDuplicateDetection", settings.requiresDuplicateDetection],
    ["RequiresSession", false],
    ["DefaultMessageTimeToLive", formatDuration(settings.defaultMessageTimeToLiveMs)],
    ["DeadLetteringOnMessageExpiration", settings.deadLetteringOnMessageExpiration],
    ["DuplicateDetectionHistoryTimeWindow", formatDuration(settings.duplicateDetectionHistoryTimeWindowMs)],
    ["MaxDeliveryCount", settings.maxDeliveryCount],
    ["EnableBatchedOperations", settings.enableBatchedOperations],
    ["SizeInBytes", queue.bytes],
    ["MessageCount", active + scheduled + deadLettered],
    ["IsAnonymousAccessible", false],
    ["Status", settings.status],
    ["ForwardTo", settings.forwardTo && url(settings.forwardTo)],
    ["UserMetadata", settings.userMetadata],
    ["CreatedAt", new Date(times.createdAt).toISOString()],
    ["UpdatedAt", new Date(times.modifiedAt).toISOString()],
    ["AccessedAt", new Date(times.accessedAt).toISOString()],
    ["SupportOrdering", true],
    ["AutoDeleteOnIdle", formatDuration(settings.autoDeleteOnIdleMs)],
    ["EnablePartitioning", false],
    ["ForwardDeadLetteredMessagesTo", settings.forwardDeadLetteredMessagesTo && url(settings.forwardDeadLetteredMessagesTo)],
    ["EntityAvailabilityStatus", "Available"],
    ["EnableExpress", false],
    ["MaxMessageSizeInKilobytes", settings.maxMessageSizeInKilobytes],
  ];
  const counts = [
    ["ActiveMessageCount", active],
    ["DeadLetterMessageCount", deadLettered],
    ["ScheduledMessageCount", scheduled],
    ["TransferMessageCount", 0],
    ["TransferDeadLetterMessageCount", 0],
  ].map(([name, count]) => `<d2p1:${name}>${count}</d2p1:${name}>`);
  return `<QueueDescription xmlns="${schema}" xmlns:i="http://www.w3.org/2001/XMLSchema-instance">` +
    elements.map(([name, value]) => (value === undefined ? "" : `<${name}>${escapeXml(String(value))}</${name}>`)).join("") +
    // The SDK reads them only if exactly one prefix is declared here.
    `<CountDetails xmlns:d2p1="${countSchema}">${counts.join("")}</CountDetails></QueueDescription>`;
}

/** The settings in it; what isn't in it keeps its value. Throws a Refusal. */
export function parseDescription(xml: string): Partial<QueueSettings> {
  const text = (name: string) => {
    const match = new RegExp(`<(?:\\w+:)?${name}(?:\\s[^>]*)?>([^<]*)</`).exec(xml);
    return match?.[1] === undefined || match[1] === "" ? undefined : unescapeXml(match[1]);
  };
  const number = (name: string) => parsed(name, text(name), (value) => (/^\d+$/.test(value) ? Number(value) : undefined));
  const boolean = (name: string) => parsed(name, text(name)?.toLowerCase(), (value) => ({ true: true, false: false })[value]);
  const duration = (name: string) => parsed(name, text(name), parseDuration);
  const status = parsed(
    "Status",
    text("Status"),
    (value): QueueStatus | undefined => queueStatuses.find((known) => known === value),
  );
  const queue = (name: string) => text(name)?.replace(/^\w+:\/\/[^/]*\//, "").replace(/\/+$/, "");

  for (const unsupported of ["RequiresSession", "EnablePartitioning", "EnableExpress"]) {
    if (boolean(unsupported)) throw badRequest(`This broker has no ${unsupported}.`);
  }
  const maxDeliveryCount = number("MaxDeliveryCount");
  if (maxDeliveryCount === 0) throw badRequest("The value of MaxDeliveryCount must be at least 1.");
  return definedOnly({
    lockDurationMs: duration("LockDuration"),
    maxDeliveryCount,
    defaultMessageTimeToLiveMs: duration("DefaultMessageTimeToLive"),
    deadLetteringOnMessageExpiration: boolean("DeadLetteringOnMessageExpiration"),
    requiresDuplicateDetection: boolean("RequiresDuplicateDetection"),
    duplicateDetectionHistoryTimeWindowMs: duration("DuplicateDetectionHistoryTimeWindow"),
    maxSizeInMegabytes: number("MaxSizeInMegabytes"),
    maxMessageSizeInKilobytes: number("MaxMessageSizeInKilobytes"),
    forwardTo: queue("ForwardTo"),
    forwardDeadLetteredMessagesTo: queue("ForwardDeadLetteredMessagesTo"),
    status,
    autoDeleteOnIdleMs: duration("AutoDeleteOnIdle"),
    enableBatchedOperations: boolean("EnableBatchedOperations"),
    userMetadata: text("UserMetadata"),
  });
}

function parsed<Value>(name: string, text: string | undefined, parse: (text: string) => Value | undefined): Value | undefined {
  if (text === undefined) return undefined;
  const value = parse(text);
  if (value === undefined) throw badRequest(`'${text}' is no value of ${name}.`);
  return value;
}

/** Settings that weren't given may not overwrite others as undefined. */
function definedOnly<Key extends string>(values: Readonly<Record<Key, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

function badRequest(description: string): Refusal {
  return new Refusal("com.microsoft:argument-error", 400, `SubCode=40000. ${description}`);
}

/** What a queue is made with, in the words of its description on Azure. */
export interface QueueSettings {
  readonly lockDurationMs: number;
  readonly maxDeliveryCount: number;
  /** Also the ceiling of what a message asks for. Infinity: none. */
  readonly defaultMessageTimeToLiveMs: number;
  readonly deadLetteringOnMessageExpiration: boolean;
  readonly requiresDuplicateDetection: boolean;
  readonly duplicateDetectionHistoryTimeWindowMs: number;
  readonly maxSizeInMegabytes: number;
  readonly maxMessageSizeInKilobytes: number;
  /** Another queue that gets every message of this one. */
  readonly forwardTo: string | undefined;
  /** Another queue that gets the dead letters of this one. */
  readonly forwardDeadLetteredMessagesTo: string | undefined;
  readonly status: QueueStatus;
  /** Kept and told, not acted upon. */
  readonly autoDeleteOnIdleMs: number;
  readonly enableBatchedOperations: boolean;
  readonly userMetadata: string | undefined;
}

export const queueStatuses = ["Active", "Disabled", "SendDisabled", "ReceiveDisabled"] as const;
export type QueueStatus = (typeof queueStatuses)[number];

export const defaultQueueSettings: QueueSettings = {
  lockDurationMs: 60_000,
  maxDeliveryCount: 10,
  defaultMessageTimeToLiveMs: Infinity,
  deadLetteringOnMessageExpiration: false,
  requiresDuplicateDetection: false,
  duplicateDetectionHistoryTimeWindowMs: 600_000,
  maxSizeInMegabytes: 1_024,
  maxMessageSizeInKilobytes: 256,
  forwardTo: undefined,
  forwardDeadLetteredMessagesTo: undefined,
  status: "Active",
  autoDeleteOnIdleMs: Infinity,
  enableBatchedOperations: true,
  userMetadata: undefined,
};

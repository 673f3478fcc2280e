import { Refusal } from "./refusal.ts";
import { defaultQueueSettings, type QueueSettings } from "./settings.ts";

export const tiers = ["basic", "standard"] as const;
export type Tier = (typeof tiers)[number];

/** Settings that Basic doesn't have, in Azure's spelling. */
const standardOnly = [
  ["autoDeleteOnIdleMs", "AutoDeleteOnIdle"],
  ["requiresDuplicateDetection", "RequiresDuplicateDetection"],
  ["forwardTo", "ForwardTo"],
  ["forwardDeadLetteredMessagesTo", "ForwardDeadLetteredMessagesTo"],
] as const;

/** Throws if the tier doesn't have what the settings ask for. */
export function refuseOfTier(tier: Tier, settings: Partial<QueueSettings>): void {
  if (tier !== "basic") return;
  for (const [key, property] of standardOnly) {
    if (settings[key] === undefined || settings[key] === defaultQueueSettings[key]) continue;
    throw new Refusal(
      "com.microsoft:argument-error",
      400,
      `SubCode=40000. The property '${property}' cannot be set when creating a Queue because the namespace is using 'Basic' tier.`,
    );
  }
}

import type { MessageContent } from "./message.ts";

export interface TestContent extends MessageContent {
  readonly name: string;
}

export function content(name: string, given: Partial<Omit<MessageContent, "messageId">> = {}): TestContent {
  return { name, bytes: 100, timeToLiveMs: Infinity, scheduledFor: undefined, messageId: () => name, ...given };
}

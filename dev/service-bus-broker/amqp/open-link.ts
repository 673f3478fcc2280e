import type { Queue } from "../queue/queue.ts";
import type { Right } from "../shared-access-key.ts";
import type { AmqpContent } from "./content.ts";

/** A link that carries messages of a queue, as its connection knows it. */
export interface OpenLink {
  readonly queue: Queue<AmqpContent>;
  /** What it needs. */
  readonly right: Right;
  readonly address: string;
  usedAt(): number;
  ended(byClient: boolean): void;
}

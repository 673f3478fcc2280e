import type { Socket } from "node:net";
import rhea, { type Connection, type Delivery, type link, type Receiver, type Sender, type Session } from "rhea";

/**
 * What rhea has and doesn't declare. A broker needs it: rhea was made for clients first, and its listening mode answers drains,
 * frees its ring of deliveries and reads raw messages only with help. Checked with rhea 3.0.5, which is pinned.
 */
export interface LinkInternals {
  credit: number;
  delivery_count: number;
  issue_flow: boolean;
  readonly local: {
    readonly attach: { snd_settle_mode?: number; rcv_settle_mode?: number; max_message_size?: number };
  };
}

export interface SenderInternals extends LinkInternals {
  _draining: boolean;
  _drained: boolean;
  _get_drain(): boolean;
}

export interface SessionInternals {
  readonly outgoing: { available(): number };
  readonly incoming: { on_transfer(frame: TransferFrame, receiver: Receiver): void };
  output(frame: unknown): void;
}

export interface TransferFrame {
  readonly performative: { message_format?: number | null };
}

export interface DeliveryInternals {
  settled: boolean;
  remote_settled: boolean;
}

interface Outcome {
  described(): unknown;
}

interface Outcomes {
  accepted(): Outcome;
  rejected(fields: { readonly error?: { readonly condition: string; readonly description: string } }): Outcome;
}

export interface ConnectionInternals {
  readonly socket: Socket;
}

// The one door to all of these.
export const connectionInternals = (it: Connection) => it as unknown as ConnectionInternals;
export const linkInternals = (it: link) => it as unknown as LinkInternals;
export const senderInternals = (it: Sender) => it as unknown as SenderInternals;
export const sessionInternals = (it: Session) => it as unknown as SessionInternals;
export const deliveryInternals = (it: Delivery) => it as unknown as DeliveryInternals;
export const outcomes = rhea.message as unknown as Outcomes;

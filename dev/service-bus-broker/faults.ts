import { Refusal, throttled } from "./queue/refusal.ts";

/** What can go wrong on purpose. */
export interface Faults {
  /** Ends every connection without a word, as a broken network does. Returns how many there were. */
  dropConnections(): number;
  /** Closes every connection as Azure closes idle ones. Returns how many there were. */
  closeConnections(): number;
  /** Detaches all links of a queue and its dead letters, or of all queues, as Azure does when it moves an entity. Returns how many. */
  detachLinks(queue?: string): number;
  /** Refuses so many sends, or all, or none any more, with the error that stands for trouble inside of Azure. */
  refuseSends(times: number | boolean): void;
  /** Sends and `$management` requests are refused as of a namespace that is out of credits. */
  throttle(on: boolean): void;
  /** So many settlements are carried out, and no reply is sent. */
  loseSettlementReplies(times: number): void;
  /** So much later comes all that the broker writes. */
  delayMs: number;
  /** Connections stay open and silent, old ones and new ones; when it ends, those end. */
  halfOpen(on: boolean): void;
  /** Every lock on messages of the queue and its dead letters is over. */
  expireLocks(queue: string): void;
  /** Locks end with the link they were taken on, as Azure says of broken networks. Otherwise they run on. */
  dropLocksAtDetach: boolean;
}

/** The part of them that the broker asks at each turn. */
export interface FaultSwitches
  extends Pick<Faults, "refuseSends" | "throttle" | "loseSettlementReplies" | "delayMs" | "dropLocksAtDetach"> {
  /** Why a send is to be refused, if it is. */
  refusalOfSend(): Refusal | undefined;
  refusalOfRequest(): Refusal | undefined;
  /** Whether the reply that comes next is to be lost. */
  losesReply(): boolean;
}

export function createFaultSwitches(): FaultSwitches {
  let refusedSends = 0;
  let lostReplies = 0;
  let throttles = false;
  return {
    delayMs: 0,
    dropLocksAtDetach: false,
    refuseSends(times) {
      refusedSends = times === true ? Infinity : Number(times);
    },
    throttle(on) {
      throttles = on;
    },
    loseSettlementReplies(times) {
      lostReplies = times;
    },
    refusalOfSend() {
      if (throttles) return throttled();
      if (refusedSends === 0) return undefined;
      refusedSends--;
      return new Refusal(
        "amqp:internal-error",
        500,
        "The service was unable to process the request; please retry the operation.",
      );
    },
    refusalOfRequest: () => throttles ? throttled() : undefined,
    losesReply() {
      if (lostReplies === 0) return false;
      lostReplies--;
      return true;
    },
  };
}

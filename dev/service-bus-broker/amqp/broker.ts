import type { Clock } from "../clock.ts";
import type { FaultSwitches } from "../faults.ts";
import type { Namespace } from "../queue/namespace.ts";
import type { SharedAccessKeys } from "../shared-access-key.ts";
import type { AmqpContent } from "./content.ts";
import type { Consumers } from "./consumers.ts";

/** What every link works with. */
export interface Broker {
  readonly namespace: Namespace<AmqpContent>;
  readonly consumers: Consumers;
  readonly clock: Clock;
  readonly faults: FaultSwitches;
  readonly keys: SharedAccessKeys;
  /** As clients address it, with the port. */
  host(): string;
}

import type { Focus } from "./simulate.ts";

/** What the long simulation is about, beside whatever chance has. */
export const focuses: Readonly<Record<string, Focus>> = {
  none: {},
  zombies: { behaviours: ["slow", "ok", "large"], takesMs: 6_000, cruelty: { stall: 0.06 } },
  wide: { wide: true, takesMs: 4_000 },
  retried: { behaviours: ["ok", "fails once", "fails", "slow"], decides: "retry always", takesMs: 3_000 },
  cancelled: { cancels: 1, takesMs: 3_000 },
  disconnected: { cruelty: { refused: 0.06, answerLost: 0.08, late: 0.06 } },
  lossy: { broker: { lost: 0.5, doubled: 0.3, delayed: 0.3 } },
};

import * as v from "valibot";

const Price = v.object({
  /** Sent, received, settled. */
  operations_per_message: v.pipe(v.number(), v.minValue(0)),
  /** US dollars. */
  per_million_operations: v.pipe(v.number(), v.minValue(0)),
});

/** What an operation on each broker costs. */
export const PriceTable = v.object({ service_bus: Price, storage_queue: Price, bullmq: Price });
export type PriceTable = v.InferOutput<typeof PriceTable>;

/**
 * List prices without base fees, as far as known in 2025: Service Bus Basic $0.05 a million operations, Queue Storage $0.004 for ten
 * thousand. Yours may differ: `BROKER_PRICES` overrides them.
 */
export const listPrices: PriceTable = {
  service_bus: { operations_per_message: 3, per_million_operations: 0.05 },
  storage_queue: { operations_per_message: 3, per_million_operations: 0.4 },
  bullmq: { operations_per_message: 3, per_million_operations: 0 },
};

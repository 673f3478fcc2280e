/** Numbers that follow from a seed alone. */
export interface Random {
  /** In [0, 1). */
  next(): number;
  chance(probability: number): boolean;
  /** An integer from `min` to `max`, both included. */
  integer(min: number, max: number): number;
  pick<Item>(items: readonly Item[]): Item;
}

/** mulberry32 */
export function createRandom(seed: number): Random {
  let position = Math.imul(seed, 2654435761) >>> 0;
  const random: Random = {
    next() {
      position = (position + 0x6d2b79f5) | 0;
      let mixed = Math.imul(position ^ (position >>> 15), 1 | position);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    },
    chance: (probability) => random.next() < probability,
    integer: (min, max) => min + Math.floor(random.next() * (max - min + 1)),
    pick(items) {
      const item = items[Math.floor(random.next() * items.length)];
      if (item === undefined) throw new Error("there is nothing to pick from");
      return item;
    },
  };
  for (let warmUp = 0; warmUp < 5; warmUp++) random.next();
  return random;
}

interface Numbered {
  readonly sequenceNumber: number;
}

/** Items by sequence number. Cheap where most are added at the end and taken from the front. */
export interface SequenceIndex<Item extends Numbered> {
  readonly size: number;
  add(item: Item): void;
  remove(item: Item): void;
  get(sequenceNumber: number): Item | undefined;
  /** The items from that number on, in order, `limit` at most. */
  from(sequenceNumber: number, limit: number): Item[];
}

export function createSequenceIndex<Item extends Numbered>(): SequenceIndex<Item> {
  /** Ascending. Where an item was removed is a hole, until half of it are holes. */
  let numbers: number[] = [];
  let items: (Item | undefined)[] = [];
  let holes = 0;
  /** Everything before is holes. */
  let head = 0;

  /** The first place whose number is not smaller. */
  function placeOf(sequenceNumber: number): number {
    let low = head;
    let high = numbers.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((numbers[middle] ?? Infinity) < sequenceNumber) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  function closeHoles(): void {
    const kept = items.filter((item) => item !== undefined);
    items = kept;
    numbers = kept.map((item) => item.sequenceNumber);
    holes = 0;
    head = 0;
  }

  return {
    get size() {
      return items.length - holes;
    },
    add(item) {
      const number = item.sequenceNumber;
      if (number > (numbers.at(-1) ?? -Infinity)) {
        numbers.push(number);
        items.push(item);
        return;
      }
      const place = placeOf(number);
      const taken = numbers[place] === number;
      if (taken && items[place] !== undefined) throw new Error(`sequence number ${number} is taken`);
      if (taken) {
        items[place] = item;
        holes--;
      } else {
        numbers.splice(place, 0, number);
        items.splice(place, 0, item);
      }
    },
    remove(item) {
      const place = placeOf(item.sequenceNumber);
      if (items[place] !== item) throw new Error(`sequence number ${item.sequenceNumber} is not here`);
      items[place] = undefined;
      holes++;
      while (head < items.length && items[head] === undefined) head++;
      if (holes > 64 && holes * 2 > items.length) closeHoles();
    },
    get(sequenceNumber) {
      const place = placeOf(sequenceNumber);
      return numbers[place] === sequenceNumber ? items[place] : undefined;
    },
    from(sequenceNumber, limit) {
      const found: Item[] = [];
      for (let place = placeOf(sequenceNumber); place < items.length && found.length < limit; place++) {
        const item = items[place];
        if (item !== undefined) found.push(item);
      }
      return found;
    },
  };
}

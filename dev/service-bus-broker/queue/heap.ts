export interface HeapEntry<Item> {
  readonly key: number;
  readonly item: Item;
  /** Where the heap has it now. */
  index: number;
}

/** Items by a number, the smallest first. Any of them can be taken out again, so nothing stale stays in it. */
export interface Heap<Item> {
  readonly size: number;
  first(): HeapEntry<Item> | undefined;
  add(key: number, item: Item): HeapEntry<Item>;
  remove(entry: HeapEntry<Item>): void;
}

export function createHeap<Item>(): Heap<Item> {
  const entries: HeapEntry<Item>[] = [];

  function put(entry: HeapEntry<Item>, index: number): void {
    entry.index = index;
    entries[index] = entry;
  }

  function rise(entry: HeapEntry<Item>, from: number): void {
    let index = from;
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = entries[above];
      if (parent === undefined || parent.key <= entry.key) break;
      put(parent, index);
      index = above;
    }
    put(entry, index);
  }

  function sink(entry: HeapEntry<Item>, from: number): void {
    let index = from;
    for (;;) {
      const left = 2 * index + 1;
      let below = left;
      let child = entries[left];
      const right = entries[left + 1];
      if (child === undefined) break;
      if (right !== undefined && right.key < child.key) {
        child = right;
        below = left + 1;
      }
      if (child.key >= entry.key) break;
      put(child, index);
      index = below;
    }
    put(entry, index);
  }

  return {
    get size() {
      return entries.length;
    },
    first: () => entries[0],
    add(key, item) {
      const entry = { key, item, index: entries.length };
      entries.push(entry);
      rise(entry, entry.index);
      return entry;
    },
    remove(entry) {
      const { index } = entry;
      if (entries[index] !== entry) throw new Error(`entry ${entry.key} is not in this heap`);
      const last = entries.pop();
      if (last === undefined || last === entry) return;
      if (last.key < entry.key) rise(last, index);
      else sink(last, index);
    },
  };
}

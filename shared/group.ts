/**
 * Groups concurrent calls: one call of `run` is in flight at a time, and whatever comes meanwhile goes into the next. So groups
 * grow with the load, and a single item waits for nobody. `run` answers in the order of the items. If it rejects for a reason
 * that `isItemsFault` calls the items' own, each is run alone, so that one bad item fails by itself.
 */
export function createGroup<Item, Answer>(
  run: (items: readonly Item[]) => Promise<readonly Answer[]>,
  { maxSize, isItemsFault }: { maxSize: number; isItemsFault: (error: unknown) => boolean },
): (item: Item) => Promise<Answer> {
  interface Waiting {
    readonly item: Item;
    readonly resolve: (answer: Answer) => void;
    readonly reject: (error: unknown) => void;
  }
  const queue: Waiting[] = [];
  let running = false;

  async function runAll(): Promise<void> {
    running = true;
    // Calls of the same turn belong together: a receive brings many messages at once.
    await new Promise((resolve) => setImmediate(resolve));
    while (queue.length > 0) {
      const group = queue.splice(0, maxSize);
      try {
        await answer(group);
      } catch (error) {
        if (group.length === 1 || !isItemsFault(error)) { for (const { reject } of group) reject(error); }
        else for (const waiting of group) await answer([waiting]).catch(waiting.reject);
      }
    }
    running = false;
  }

  async function answer(group: readonly Waiting[]): Promise<void> {
    const answers = await run(group.map(({ item }) => item));
    group.forEach(({ resolve, reject }, position) => {
      const given = answers[position];
      if (given === undefined) reject(new Error("an item of a group got no answer"));
      else resolve(given);
    });
  }

  return (item) => {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    queue.push({ item, resolve, reject });
    if (!running) void runAll();
    return promise;
  };
}

// Loaded before a program (`--expose-gc --import`): when its parent asks, it collects garbage and says what is left. It ends with
// its parent.
process.on("message", (message) => {
  if (message !== "memory") return;
  globalThis.gc?.();
  const { heapUsed, external, rss } = process.memoryUsage();
  process.send?.({ memory: { usedBytes: heapUsed + external, residentBytes: rss } });
});
process.on("disconnect", () => process.exit());

export {};

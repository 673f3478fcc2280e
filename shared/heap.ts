/**
 * Bounds of the V8 heap of every role, given when its process starts (V8 can't take them later).
 *
 * Left alone, V8 sizes the heap by the memory of the machine and collects late: 400,000 tasks left an orchestrator and a task-runner
 * at 315 MB resident, with the bound at 175 and 161 MB (test/pipeline/large.long.test.ts). Old objects may fill 192 MB, which nothing
 * of ours comes near (results stream, groups are bounded), and beyond which V8 ends the process rather than the kernel the pod.
 */
export const heapFlags = ["--max-semi-space-size=16", "--max-old-space-size=192"] as const;

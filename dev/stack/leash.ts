// Loaded before the program (`--import`) into every process of the local stack: it ends when the stack does, even if that was
// killed, as its stdin is a pipe from there. Production code needs to know nothing of it.
const graceMs = 3_000;

process.stdin.on("error", () => {});
process.stdin.on("close", () => {
  process.kill(process.pid, "SIGTERM");
  setTimeout(() => process.kill(process.pid, "SIGKILL"), graceMs).unref();
});
process.stdin.resume();
// A pipe that nobody writes to must not keep the program running.
if ("unref" in process.stdin && typeof process.stdin.unref === "function") process.stdin.unref();

export {};

/** npm passes Ctrl-C on to a process that has it from the terminal already. */
const repeatMs = 1_000;
const parentCheckMs = 500;

/**
 * Aborts at SIGINT, SIGTERM or SIGHUP, or when the npm that runs this is gone. A second signal, if it isn't the first one's echo,
 * ends the process at once, and its children with it.
 */
export function stackStopSignal(): AbortSignal {
  const stopping = new AbortController();
  let firstAt = 0;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      if (stopping.signal.aborted && performance.now() - firstAt > repeatMs) process.exit(130);
      firstAt ||= performance.now();
      stopping.abort(new Error(`stopped by ${signal}`));
    });
  }
  if (process.env.npm_lifecycle_event) {
    const parent = process.ppid;
    setInterval(() => {
      if (process.ppid !== parent) stopping.abort(new Error("npm is gone"));
    }, parentCheckMs).unref();
  }
  return stopping.signal;
}

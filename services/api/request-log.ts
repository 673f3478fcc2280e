import type { MiddlewareHandler } from "hono";
import type { Logger } from "pino";

declare module "hono" {
  interface ContextVariableMap {
    /** Every line carries the ids of the request. */
    log: Logger;
  }
}

const probes = ["/livez", "/readyz"];

/** One line per request, with what was wrong with it; never its query or bodies. */
export function logRequests(log: Logger): MiddlewareHandler {
  return async (context, next) => {
    const started = performance.now();
    const requestId = context.get("requestId");
    const requestLog = log.child({ requestId, correlationId: requestId });
    context.set("log", requestLog);
    await next();
    const { method, path } = context.req;
    const { status } = context.res;
    const problem = context.get("problem");
    const line = {
      method,
      path: path.slice(0, 200),
      status,
      durationMs: Math.round((performance.now() - started) * 10) / 10,
      ...(problem && { problem: problem.kind }),
      ...(problem && problem.errors.length > 0 && { errors: problem.errors }),
      ...(problem?.cause !== undefined && { err: problem.cause }),
    };
    if (status >= 500) requestLog.error(line, "request");
    else if (probes.includes(path)) requestLog.debug(line, "request");
    else requestLog.info(line, "request");
  };
}

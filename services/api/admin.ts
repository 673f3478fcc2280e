import type { Context } from "hono";
import { Problem } from "./problem.ts";

const loopbackAddresses = /^(127\.\d+\.\d+\.\d+|::1|::ffff:127\.\d+\.\d+\.\d+)$/;
const loopbackNames = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;
/** Put in by proxies, which may be on this machine while the client is not; and by browsers, on behalf of a page from elsewhere. */
const foreignHeaders = ["forwarded", "x-forwarded-for", "x-real-ip", "origin"];

/** Whether a request comes from this machine itself, by somebody who meant it. */
export function isLocal(context: Context, remoteAddress: string | undefined): boolean {
  return remoteAddress !== undefined && loopbackAddresses.test(remoteAddress) &&
    loopbackNames.test(new URL(context.req.url).hostname) && // a page may have a name of its own for 127.0.0.1
    foreignHeaders.every((header) => context.req.header(header) === undefined);
}

/** Throws Problem `forbidden` where an admin's request is not to be answered. */
export function requireAdmin(allowed: boolean): void {
  if (!allowed) {
    throw new Problem("forbidden", "this is answered on the loopback address only; ALLOW_ADMIN_ROUTES=true changes that");
  }
}

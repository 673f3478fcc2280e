import type { Context } from "hono";

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

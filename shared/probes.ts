import { serve, type ServerType } from "@hono/node-server";
import { Hono } from "hono";

/** A server that listens. */
export interface Listening {
  readonly port: number;
  close(): Promise<void>;
}

/** Serves an app; resolves once it listens. Port 0 takes a free one. Slow clients are cut off. */
export async function listen(app: Hono, { host, port }: { host: string; port: number }): Promise<Listening> {
  const server = await new Promise<ServerType>((resolve, reject) => {
    const started = serve({ fetch: app.fetch, hostname: host, port }, () => resolve(started));
    started.on("error", reject);
  });
  if ("requestTimeout" in server) {
    server.requestTimeout = 30_000;
    server.headersTimeout = 10_000;
    server.keepAliveTimeout = 65_000;
  }
  const address = server.address();
  return {
    port: typeof address === "object" && address ? address.port : port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        if ("closeIdleConnections" in server) server.closeIdleConnections();
      }),
  };
}

/** For a `main.ts`: an address that can't be had is said in one line that names the variable at fault, and ends the process. */
export async function listenOrExit(app: Hono, address: { host: string; port: number }): Promise<Listening> {
  try {
    return await listen(app, address);
  } catch (error) {
    const problem = describeRefusal(error, address);
    if (problem === undefined) throw error;
    console.error(problem);
    process.exit(1);
  }
}

function describeRefusal(error: unknown, { host, port }: { host: string; port: number }): string | undefined {
  switch (error instanceof Error && "code" in error && error.code) {
    case "EADDRINUSE":
      return `PORT: ${port} is taken by another program (on ${host})`;
    case "EACCES":
      return `PORT: ${port} may not be opened by this account`;
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return `HOST: ${host} is no address of this machine`;
  }
  return undefined;
}

/** `/livez`: the process turns. `/readyz`: nothing keeps it from working; otherwise 503 with the problem. */
export function createProbes(findProblem: () => Promise<string | null>): Hono {
  return new Hono()
    .get("/livez", (context) => context.json({ status: "alive" }))
    .get("/readyz", async (context) => {
      const problem = await findProblem().catch((error: unknown) => error instanceof Error ? error.message : String(error));
      return problem === null ? context.json({ status: "ready" }) : context.json({ status: "not ready", problem }, 503);
    });
}

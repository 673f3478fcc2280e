import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface RewritingProxy {
  readonly port: number;
  /** Of every PUT so far. */
  readonly bodies: readonly string[];
  stop(): Promise<void>;
}

/** An HTTP proxy in front of a server on this machine that changes the text of its answers: settings that the broker hasn't got. */
export async function startRewritingProxy(
  targetPort: number,
  rewrite: (text: string, path: string) => string,
): Promise<RewritingProxy> {
  const bodies: string[] = [];
  const server = createServer(async (request, response) => {
    const path = request.url ?? "/";
    const { authorization = "", "if-match": ifMatch } = request.headers;
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    if (request.method === "PUT") bodies.push(body.toString());
    const answer = await fetch(`http://127.0.0.1:${targetPort}${path}`, {
      method: request.method ?? "GET",
      headers: { authorization, ...(ifMatch && { "if-match": ifMatch }) },
      ...(request.method === "PUT" && { body }),
    });
    response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "" });
    response.end(rewrite(await answer.text(), path));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    bodies,
    port: (server.address() as AddressInfo).port,
    async stop() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

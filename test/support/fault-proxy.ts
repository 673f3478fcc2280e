import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";

export type Fault =
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>>; readonly code?: string }
  | "drop" // the socket closes without an answer
  | "drop-midway" // half of the answer's body, then the socket closes
  | "lose-answer" // the request gets through, its answer doesn't
  | "hang"; // no answer until the client gives up

export interface FaultProxy {
  /** The target's URL, but for the port. */
  readonly url: string;
  /** `GET /path?query` of every request so far. */
  readonly requests: readonly string[];
  /** Asked for each request, counted from 1 since it was set. */
  setFault(fault: (n: number, line: string) => Fault | undefined): void;
  stop(): Promise<void>;
}

/** An HTTP proxy in front of a real server, which answers what it is told to instead. */
export async function startFaultProxy(target: string): Promise<FaultProxy> {
  const { hostname, port: targetPort } = new URL(target);
  const requests: string[] = [];
  const sockets = new Set<Socket>();
  let fault: (n: number, line: string) => Fault | undefined = () => undefined;
  let asked = 0;

  const server = createServer((incoming, outgoing) => {
    const line = `${incoming.method} ${incoming.url}`;
    requests.push(line);
    answer(incoming, outgoing, fault(++asked, line));
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => {});
  });

  function answer(incoming: IncomingMessage, outgoing: ServerResponse, faulty: Fault | undefined): void {
    if (faulty === "hang") return;
    if (faulty === "drop") {
      incoming.socket.destroy();
      return;
    }
    if (typeof faulty === "object") {
      incoming.resume();
      incoming.on("end", () => {
        outgoing.writeHead(faulty.status, { ...(faulty.code && { "x-ms-error-code": faulty.code }), ...faulty.headers });
        outgoing.end();
      });
      return;
    }
    const { method, url, headers } = incoming;
    const forwarded = request({ hostname, port: targetPort, method, path: url, headers }, async (answered) => {
      incoming.unpipe(forwarded).resume(); // an answer may come before the body was read
      const chunks: Buffer[] = [];
      for await (const chunk of answered) chunks.push(chunk);
      const body = Buffer.concat(chunks);
      if (faulty === "lose-answer") {
        incoming.socket.destroy();
        return;
      }
      outgoing.writeHead(answered.statusCode ?? 502, answered.headers);
      if (faulty === "drop-midway") {
        outgoing.write(body.subarray(0, body.length / 2), () => incoming.socket.destroy());
      } else outgoing.end(body);
    });
    forwarded.on("error", () => incoming.socket.destroy());
    incoming.pipe(forwarded);
  }

  await new Promise<void>((resolve) => server.listen(0, hostname, resolve));
  const url = new URL(target);
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    requests,
    setFault(next) {
      fault = next;
      asked = 0;
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

import { connect, createServer, type Socket } from "node:net";
import type { AddressInfo } from "node:net";

export interface FreezingProxy {
  readonly port: number;
  /** The connections of now stay open and silent for ever, as behind a router that forgot them; new ones work. */
  freeze(): void;
  stop(): Promise<void>;
}

/** A TCP proxy in front of a server on this machine. */
export async function startFreezingProxy(targetPort: number): Promise<FreezingProxy> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(targetPort, "127.0.0.1");
    for (const [from, to] of [[client, upstream], [upstream, client]] as const) {
      sockets.add(from);
      from.setNoDelay(true);
      from.on("error", () => {});
      from.on("data", (chunk) => void to.write(chunk));
      from.on("close", () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    freeze() {
      for (const socket of sockets) socket.removeAllListeners("data").removeAllListeners("close").resume();
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

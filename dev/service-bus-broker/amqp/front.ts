import { once } from "node:events";
import type { Server, Socket } from "node:net";
import rhea, { type Connection, type EventContext } from "rhea";
import type { Broker } from "./broker.ts";
import { createOpenConnection, type OpenConnection } from "./open-connection.ts";
import { connectionInternals } from "./rhea-internals.ts";
import { createWire, type Wire } from "./wire.ts";

/** The broker as AMQP clients see it. */
export interface Front {
  /** Resolves with the port. */
  listen(port: number, host: string): Promise<number>;
  connections(): readonly OpenConnection[];
  /** Ends all connections without a word. */
  drop(): number;
  halfOpen(on: boolean): void;
  /** Ends all connections and listens no more. */
  close(): Promise<void>;
}

/** Without the second, which rhea doesn't declare, an abandon or a defer would look like a release. */
const senderOptions = { autosettle: false, treat_modified_as_released: false };

export function createFront(broker: Broker): Front {
  const container = rhea.create_container({ id: "service-bus-broker" });
  const open = new Map<Connection, OpenConnection>();
  const wires = new Set<Wire>();
  let silent = false;
  let server: Server | undefined;

  // Tokens come later, over $cbs; MSSBCBS is how .NET says so.
  container.sasl_server_mechanisms.enable_anonymous();
  container.sasl_server_mechanisms.MSSBCBS = container.sasl_server_mechanisms.ANONYMOUS;

  const of = ({ connection }: EventContext) => open.get(connection);
  const forget = (connection: Connection) => {
    open.get(connection)?.ended();
    open.delete(connection);
  };
  container.on(
    "connection_open",
    ({ connection }: EventContext) => open.set(connection, createOpenConnection(broker, connection)),
  );
  container.on("session_open", (context: EventContext) => context.session && of(context)?.onSession(context.session));
  container.on("receiver_open", (context: EventContext) => context.receiver && of(context)?.onReceiver(context.receiver));
  container.on("sender_open", (context: EventContext) => context.sender && of(context)?.onSender(context.sender));
  container.on("receiver_close", (context: EventContext) => context.receiver && of(context)?.onLinkClosed(context.receiver));
  container.on("sender_close", (context: EventContext) => context.sender && of(context)?.onLinkClosed(context.sender));
  container.on("session_close", (context: EventContext) => {
    for (const link of of(context)?.links.keys() ?? []) if (link.session === context.session) of(context)?.onLinkClosed(link);
  });
  container.on("connection_close", ({ connection }: EventContext) => forget(connection));
  container.on("disconnected", ({ connection }: EventContext) => forget(connection));
  // What a client reports as its reason to end a link, session or connection; rhea throws it where nobody listens.
  for (const event of ["connection_error", "session_error", "receiver_error", "sender_error"]) container.on(event, () => {});
  // Frames that make no sense, or a mistake of ours: that connection ends, and somebody should know.
  for (const event of ["protocol_error", "error"]) {
    container.on(event, (error: unknown) => console.error("The Service Bus broker ends a connection:", error));
  }

  function accept(socket: Socket): void {
    const wire = createWire(socket, () => broker.faults.delayMs);
    wires.add(wire);
    if (silent) wire.fallSilent();
    socket.once("close", () => {
      wires.delete(wire);
      // rhea says nothing of a socket that was destroyed here, and a consumer left behind would go on locking messages.
      for (const connection of open.keys()) if (connectionInternals(connection).socket === socket) forget(connection);
    });
  }

  return {
    async listen(port, host) {
      const listening = container.listen({
        port,
        host,
        max_frame_size: 65_536,
        channel_max: 4_999,
        noDelay: true,
        session_buffer_size: { incoming: 4_096, outgoing: 8_192 },
        sender_options: senderOptions,
        receiver_options: { autoaccept: false, credit_window: 0 },
      });
      server = listening;
      listening.on("connection", accept);
      await once(listening, "listening");
      const address = listening.address();
      if (address === null || typeof address === "string") throw new Error(`no port: ${address}`);
      return address.port;
    },
    connections: () => [...open.values()],
    drop() {
      const dropped = wires.size;
      for (const wire of wires) wire.destroy();
      return dropped;
    },
    halfOpen(on) {
      silent = on;
      for (const wire of wires) {
        if (on) wire.fallSilent();
        else if (wire.isSilent) wire.destroy();
      }
    },
    async close() {
      const closing = server;
      server = undefined;
      if (!closing) return;
      const closed = once(closing, "close");
      closing.close();
      for (const wire of wires) wire.destroy();
      await closed;
      for (const connection of [...open.keys()]) forget(connection);
    },
  };
}

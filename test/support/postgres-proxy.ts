import { connect, createServer, type Socket } from "node:net";
import type { AddressInfo } from "node:net";

/** What becomes of a statement: its connection ends before the server has seen it, or after, its answer lost, whole or behind the first row. */
export type StatementFault = "drop" | "lose-answer" | "cut-answer";

export interface PostgresProxy {
  /** The target's URL, but for host and port. */
  readonly url: string;
  /** Asked for each statement, counted from 1 since it was set. Undefined lets it pass. */
  setFault(fault: ((n: number) => StatementFault | undefined) | null): void;
  /** Statements seen since the fault was set. */
  readonly statements: number;
  stop(): Promise<void>;
}

/** Protocol 3.0, in the first frame of a connection; others ask for encryption. */
const startupCode = 196608;

/** Where the first DataRow of an answer ends, or where its ReadyForQuery begins; undefined as long as neither is there. */
function endOfFirstRow(answer: Buffer): number | undefined {
  for (let start = 0; start + 5 <= answer.length;) {
    const type = String.fromCharCode(answer[start] ?? 0);
    const end = start + 1 + answer.readUInt32BE(start + 1);
    if (type === "Z") return start;
    if (type === "D" && end <= answer.length) return end;
    start = end;
  }
  return undefined;
}

/** A TCP proxy in front of a real PostgreSQL that breaks connections at chosen statements. */
export async function startPostgresProxy(targetUrl: string): Promise<PostgresProxy> {
  const target = new URL(targetUrl);
  const sockets = new Set<Socket>();
  let fault: ((n: number) => StatementFault | undefined) | null = null;
  let statements = 0;

  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.setNoDelay(true); // the proxy must not add the 40 ms of a delayed ACK
      socket.on("error", () => {});
      socket.on("close", () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    let pending = Buffer.alloc(0);
    let started = false;
    let answersLost = false;
    let answerCut = false;
    client.on("data", (chunk: Buffer) => {
      pending = Buffer.concat([pending, chunk]);
      for (;;) {
        const typed = started ? 1 : 0;
        if (pending.length < typed + 4) return;
        const end = typed + pending.readUInt32BE(typed);
        if (pending.length < end) return;
        const frame = pending.subarray(0, end);
        pending = pending.subarray(end);
        if (!started) started = frame.readUInt32BE(4) === startupCode;
        // Sync ends a statement of the extended protocol, Query is one of the simple protocol.
        const type = typed ? String.fromCharCode(frame[0] ?? 0) : "";
        const found = (type === "S" || type === "Q") && fault ? fault(++statements) : undefined;
        if (found === "drop") return void client.destroy();
        if (found === "lose-answer") {
          answersLost = true;
          setTimeout(() => client.destroy(), 30);
        }
        if (found === "cut-answer") answerCut = true;
        upstream.write(frame);
      }
    });
    let answer = Buffer.alloc(0);
    upstream.on("data", (chunk: Buffer) => {
      if (answersLost) return;
      if (!answerCut) return void client.write(chunk);
      answer = Buffer.concat([answer, chunk]);
      const end = endOfFirstRow(answer);
      if (end === undefined) return;
      answersLost = true;
      client.end(answer.subarray(0, end));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = new URL(targetUrl);
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    setFault(next) {
      statements = 0;
      fault = next;
    },
    get statements() {
      return statements;
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

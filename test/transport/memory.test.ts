import { MemoryBroker, openMemoryTransport } from "../../shared/transport/memory.ts";
import { describeTransport } from "./conformance.ts";

describeTransport("memory", async () => {
  const broker = new MemoryBroker();
  return { open: (options) => openMemoryTransport({ ...options, broker }), stop: async () => {} };
}, { remote: false });

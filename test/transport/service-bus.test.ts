import { ServiceBusClient } from "@azure/service-bus";
import { startServiceBusBroker } from "../../dev/service-bus-broker/start.ts";
import { openServiceBusTransport } from "../../shared/transport/service-bus.ts";
import { describeTransport } from "./conformance.ts";

describeTransport("service-bus", async () => {
  const broker = await startServiceBusBroker();
  const byHand = new ServiceBusClient(broker.connectionString);
  return {
    open: (options) => openServiceBusTransport(broker, options),
    putByHand: (queue, text) => byHand.createSender(queue).sendMessages({ body: Buffer.from(text) }),
    openUnreachable: () =>
      openServiceBusTransport({ connectionString: broker.connectionString.replace(/localhost:\d+/, "localhost:1") }),
    restart: broker.restart,
    async stop() {
      await byHand.close();
      await broker.stop();
    },
  };
}, { remote: true });

import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { describe } from "vitest";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import { redisIsInstalled, startRedis } from "../support/redis.ts";
import { describeTransport } from "./conformance.ts";

describe.skipIf(!redisIsInstalled())("with a redis-server", () => {
  describeTransport("bullmq on Redis", async () => {
    const redis = await startRedis();
    const connection = new Redis(redis.url);
    connection.on("error", () => {}); // the server is restarted
    return {
      open: (options) => openBullmqTransport({ redisUrl: redis.url }, options),
      async putByHand(name, text) {
        const queue = new Queue(name, { connection });
        queue.on("error", () => {});
        const { id = "" } = await queue.add("by hand", text);
        if (text.startsWith("not ")) await connection.hset(queue.toKey(id), "data", text); // without BullMQ, even
      },
      openUnreachable: () => openBullmqTransport({ redisUrl: "redis://127.0.0.1:1" }),
      restart: redis.restart,
      async stop() {
        connection.disconnect();
        await redis.stop();
      },
    };
  }, { remote: true });
});

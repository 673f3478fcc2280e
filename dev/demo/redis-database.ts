import { Redis } from "ioredis";

export interface RedisDatabase {
  readonly url: string;
  /** Empties it. */
  release(): Promise<void>;
}

const marker = "sluice-demo";

/** An empty database of this Redis, so that the demo's queues are nobody else's. */
export async function takeRedisDatabase(redisUrl: string): Promise<RedisDatabase> {
  for (let number = 15; number > 0; number--) {
    const url = new URL(`/${number}`, redisUrl).href;
    const redis = new Redis(url, { maxRetriesPerRequest: 3 });
    redis.on("error", () => {}); // the command that fails by it rejects
    const taken = await redis.dbsize() === 0 && await redis.set(marker, "1", "NX") === "OK";
    if (!taken) {
      redis.disconnect();
      continue;
    }
    return {
      url,
      async release() {
        await redis.flushdb();
        redis.disconnect();
      },
    };
  }
  throw new Error("no database of the Redis of REDIS_URL is empty");
}

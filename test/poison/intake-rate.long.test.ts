import { mkdir, readFile, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { defaultQueues } from "../../shared/transport/queues.ts";
import { brokers } from "../support/brokers.ts";
import { createTestDatabase } from "../support/database.ts";
import { startRole } from "../support/processes.ts";
import { sendStage } from "./dead-letters.ts";
import { letDie } from "./intake-kills.ts";

const letters = 10_000;
const maxResidentMb = 300;

describe.each(brokers)("over $name", ({ name, missing, start }) => {
  test.skipIf(missing)("10,000 dead letters, some of them large, are taken in within a minute and 300 MB", async () => {
    const [broker, database] = await Promise.all([start(), createTestDatabase()]);
    const { sql } = database;
    const transport = broker.open();
    const queues = defaultQueues[transport.name];
    await transport.provision(Object.values(queues));
    const { messages } = await sendStage(sql, { tasks: letters, processingPath: transport.name });
    // A third waits, a third can't be read, a third is large, too.
    const dead = messages.map((message, index) =>
      index % 3 === 0 ? message : { messageId: `bad-${index}`, body: index % 3 === 1 ? "{" : `{${"x".repeat(20_000)}` }
    );
    await letDie(transport, queues.tasks, dead);
    const handler = await startRole("poison-handler", {
      DATABASE_URL: database.url,
      CLAIM_CHECK_DIRECTORY: "/tmp/sluice-intake-claim-checks",
      ...broker.environment,
    });
    try {
      const startedAt = performance.now();
      while ((await transport.counts(queues.tasks)).deadLettered > 0) await sleep(200);
      const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
      const status = await readFile(`/proc/${handler.pid}/status`, "utf8");
      const peakResidentMb = Math.round(Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024);
      const figures = { broker: name, deadLetters: letters, seconds, perSecond: Math.round(letters / seconds), peakResidentMb };
      console.log(figures);
      await mkdir("docs/figures", { recursive: true });
      await writeFile(`docs/figures/intake-${name.replaceAll(" ", "-")}.json`, `${JSON.stringify(figures, null, 2)}\n`);
      const verdicts = await sql`select verdict, count(*)::int as n from poison_messages group by verdict order by verdict`;
      const waiting = Math.ceil(letters / 3);
      expect(verdicts).toEqual([{ verdict: "recovered", n: waiting }, { verdict: "unreadable", n: letters - waiting }]);
      expect(peakResidentMb).toBeLessThan(maxResidentMb);
    } finally {
      await handler.end("SIGKILL");
      await transport.close();
      await broker.stop();
      await database.drop();
    }
  });
});

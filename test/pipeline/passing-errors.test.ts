import { pino } from "pino";
import { expect } from "vitest";
import { handleHelloWorldGreeting } from "../../services/task-runner/tasks/hello-world-greeting.ts";
import { handleHelloWorldReply } from "../../services/task-runner/tasks/hello-world-reply.ts";
import { helloWorld } from "../../shared/jobs/hello-world.ts";
import { findViolations } from "../../shared/store/invariants.ts";
import { openBullmqTransport } from "../../shared/transport/bullmq.ts";
import { test } from "../support/database.ts";
import { expectGreetings } from "../support/greetings.ts";
import { startPipeline, whenEnded } from "../support/pipeline.ts";

test.for(["57014", "53200", "25006"])(
  "results that the database refuses for the moment (%s) are recorded the next time, each attempt once, and the log says so once",
  async (code, { sql, database }) => {
    // A sequence counts what is rolled back, too: the first three tries to complete a task fail.
    await sql`create sequence tries`;
    await sql.unsafe(`
      create function refuse_at_first() returns trigger language plpgsql as $$
      begin
        if nextval('tries') <= 3 then raise exception 'not now' using errcode = '${code}'; end if;
        return new;
      end $$`);
    await sql`
      create trigger refuse_at_first before update of status on tasks for each row when (new.status = 'completed')
      execute function refuse_at_first()`;
    const lines: { level: number; msg: string; taskIds: number[]; jobIds: string[] }[] = [];
    const log = pino({ level: "info" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
    const transport = openBullmqTransport({ databaseUrl: database.url });
    const pipeline = await startPipeline({
      sql,
      transport,
      jobs: [helloWorld],
      handlers: [handleHelloWorldGreeting, handleHelloWorldReply],
      log,
    });
    const jobId = await pipeline.submit("hello_world", { n: 20, name: "Ada", message: null, failure_rate: 0 });
    expect(await whenEnded(sql, jobId, 20_000)).toMatchObject({ status: "completed" });
    await expectGreetings(sql, jobId, 20, "Ada");
    expect(await sql`select from tasks where attempt <> 1 or interruptions > 0`).toHaveLength(0);
    expect(await findViolations(sql)).toEqual([]);
    const warnings = lines.filter(({ msg }) => msg === "not recorded, trying again");
    expect(warnings).toMatchObject([{ level: 40, jobIds: [jobId], code, err: { message: "not now" } }]);
    const [warned] = warnings;
    const ofJob = (await sql<{ id: number }[]>`select id from tasks`).map(({ id }) => id);
    expect(ofJob).toEqual(expect.arrayContaining(warned?.taskIds ?? [0]));
    expect(lines.filter(({ msg }) => msg === "recorded after all")).toMatchObject([
      { level: 30, jobIds: [jobId], taskIds: warned?.taskIds, failures: 3, elapsedMs: expect.any(Number) },
    ]);
    await pipeline.stop();
    await transport.close();
  },
);

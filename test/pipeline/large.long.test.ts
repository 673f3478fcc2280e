import { mkdir, readFile, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { findViolations } from "../../shared/store/invariants.ts";
import { defaultQueues } from "../../shared/transport/queues.ts";
import { brokers } from "../support/brokers.ts";
import { createTestDatabase } from "../support/database.ts";
import { expectGreetings } from "../support/greetings.ts";
import { whenEnded } from "../support/pipeline.ts";
import { type RoleProcess, startRole } from "../support/processes.ts";

const maxResidentMb = 300;

describe.each(brokers.filter(({ name }) => name.startsWith("bullmq")))("$name", ({ name, missing, start }) => {
  test.skipIf(missing).each([10_000, 200_000])("hello_world, n = %i, every process under 300 MB", async (n) => {
    const broker = await start();
    const database = await createTestDatabase();
    const transport = broker.open();
    await transport.provision(Object.values(defaultQueues[transport.name]));
    await transport.close();
    const environment = {
      DATABASE_URL: database.url,
      CLAIM_CHECK_DIRECTORY: "/tmp/sluice-large-claim-checks",
      AZURE_STORAGE_CONNECTION_STRING: "UseDevelopmentStorage=true",
      ...broker.environment,
    };
    const processes = await Promise.all(
      (["api", "orchestrator", "task-runner"] as const).map((role) => startRole(role, environment)),
    );
    const watching = new AbortController();
    const peaks = watchMemory(processes, watching.signal);
    try {
      const startedAt = performance.now();
      const response = await fetch(`http://127.0.0.1:${processes[0]?.port}/api/jobs/submit/hello_world`, {
        method: "POST",
        body: JSON.stringify({ n, name: "Grace" }),
      });
      const { job_id } = await response.json() as { job_id: string };
      const job = await whenEnded(database.sql, job_id, 3_000_000);
      const seconds = (performance.now() - startedAt) / 1000;
      expect(job).toMatchObject({ status: "completed", result: { greetings: n, replies: n } });
      await expectGreetings(database.sql, job_id, n, "Grace");
      expect(await findViolations(database.sql)).toEqual([]);
      watching.abort();
      const figures = {
        broker: name,
        n,
        tasks: 2 * n,
        seconds: Math.round(seconds * 10) / 10,
        tasksPerSecond: Math.round(2 * n / seconds),
        peakResidentMb: await peaks,
      };
      console.log(figures);
      await mkdir("docs/figures", { recursive: true });
      await writeFile(`docs/figures/large-${name.replaceAll(" ", "-")}-${n}.json`, `${JSON.stringify(figures, null, 2)}\n`);
      expect(Math.max(...Object.values(figures.peakResidentMb))).toBeLessThan(maxResidentMb);
    } finally {
      watching.abort();
      await Promise.all(processes.map((role) => role.end("SIGKILL")));
      await broker.stop();
      await database.drop();
    }
  });
});

/** The highest resident size of each process, in MB, as the kernel kept it. */
async function watchMemory(processes: readonly RoleProcess[], signal: AbortSignal): Promise<Record<string, number>> {
  const peaks: Record<string, number> = {};
  while (!signal.aborted) {
    for (const { role, pid } of processes) {
      const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
      peaks[role] = Math.max(peaks[role] ?? 0, Math.round(Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) / 1024));
    }
    await sleep(500, undefined, { signal }).catch(() => {});
  }
  return peaks;
}

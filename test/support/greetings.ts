import { expect } from "vitest";
import type { Sql } from "../../shared/store/database.ts";

/** The texts that hello_world must give, from its parameters alone: n greetings, and n replies that quote theirs. */
export async function expectGreetings(sql: Sql, jobId: string, n: number, name: string): Promise<void> {
  const rows = await sql<{ number: number; index: number; status: string; result: Record<string, unknown> }[]>`
    select number, index, tasks.status, tasks.result from tasks join stages on stages.id = stage_id
    where job_id = ${jobId} order by number, index`;
  const numbers = Array.from({ length: n }, (_, index) => index + 1);
  const texts = rows.map(({ number, index, status, result }) =>
    [number, index, status, number === 1 ? result?.greeting : result?.original_greeting].join("|")
  );
  expect(texts).toEqual(
    [1, 2].flatMap((stage) => numbers.map((number) => `${stage}|${number - 1}|completed|Hello, ${name}! (task ${number})`)),
  );
  for (const { number, result } of rows) {
    if (number === 2) expect(result.reply).toContain(String(result.original_greeting));
  }
}

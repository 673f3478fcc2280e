import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import * as v from "valibot";
import { afterEach, expect, test } from "vitest";
import { createHttpJudge } from "../../services/task-runner/assessment/http-judge.ts";
import { PermanentError } from "../../shared/errors.ts";

interface Reply {
  readonly status?: number;
  readonly body?: string;
  /** Never answers. */
  readonly hangs?: boolean;
}

let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

/** A server that gives these replies one after the other, the last one for ever. */
async function startJudge(...replies: Reply[]) {
  const asked: unknown[] = [];
  server = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk) => text += chunk);
    request.on("end", () => {
      asked.push(JSON.parse(text));
      const { status = 200, body = `{"n": 1}`, hangs = false } = replies[Math.min(asked.length, replies.length) - 1] ?? {};
      if (!hangs) response.writeHead(status, { "content-type": "application/json" }).end(body);
    });
  });
  await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, asked };
}

const Answer = v.object({ n: v.number() });
const options = { timeoutMs: 200, backoffMs: 1 };
const signal = new AbortController().signal;

test("gets the question as JSON and gives the answer", async () => {
  const { url, asked } = await startJudge({});
  expect(await createHttpJudge(url, Answer, options)({ submission_id: "s" }, signal)).toEqual({ n: 1 });
  expect(asked).toEqual([{ submission_id: "s" }]);
});

test.each([{ status: 503 }, { status: 429 }, { hangs: true }])("%o is tried again", async (reply) => {
  const { url, asked } = await startJudge(reply, {});
  expect(await createHttpJudge(url, Answer, options)({}, signal)).toEqual({ n: 1 });
  expect(asked).toHaveLength(2);
});

test.each([{ status: 400 }, { status: 404 }, { body: "nonsense" }, { body: `{"n": "one"}` }])(
  "%o is permanent, and not tried again",
  async (reply) => {
    const { url, asked } = await startJudge(reply);
    await expect(createHttpJudge(url, Answer, options)({}, signal)).rejects.toBeInstanceOf(PermanentError);
    expect(asked).toHaveLength(1);
  },
);

test("gives up after a few tries, and is not asked at all once too many have failed", async () => {
  const { url, asked } = await startJudge({ status: 500 });
  const judge = createHttpJudge(url, Answer, { ...options, breakAfter: 5 });
  await expect(judge({}, signal)).rejects.toThrow("answered 500");
  expect(asked).toHaveLength(3);
  await expect(judge({}, signal)).rejects.not.toBeInstanceOf(PermanentError);
  expect(asked).toHaveLength(5);
  await expect(judge({}, signal)).rejects.not.toBeInstanceOf(PermanentError);
  expect(asked).toHaveLength(5);
});

test("an aborted task ends the request", async () => {
  const { url } = await startJudge({ hangs: true });
  const judge = createHttpJudge(url, Answer, { timeoutMs: 60_000, backoffMs: 1 });
  await expect(judge({}, AbortSignal.timeout(50))).rejects.toThrow();
});

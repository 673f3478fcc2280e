import { fc } from "../../test/support/seeded.ts";
import { expect, test } from "vitest";
import { decodeJob, encodeDeadLetterJob, encodeJob, jobIdOf } from "./bullmq-job.ts";

const wellFormed = fc.string({ unit: "binary" });

test("any message comes back as it was, in JSON that PostgreSQL can store", () => {
  fc.assert(fc.property(wellFormed, (body) => {
    const job = encodeJob("id", { messageId: "a:b", body }, 0);
    expect(job.data).not.toMatch(/(?<!\\)(\\\\)*\\u0000/);
    expect(decodeJob("id", job.data)).toEqual({ messageId: "a:b", body });
  }));
});

test("a dead letter comes back with its reason", () => {
  const job = encodeDeadLetterJob("id", { messageId: "a", body: "b" }, {
    reason: "task-failed",
    description: "\u0000\ud800!",
    deliveryCount: 2,
    enqueuedAt: "2025-11-23T06:00:00.000Z",
  });
  expect(decodeJob("id", job.data)).toEqual({
    messageId: "a",
    body: "b",
    deadLettered: { reason: "task-failed", description: "\ufffd\ufffd!" },
  });
});

test("the data of a job that isn't ours is a body, and decoding never throws", () => {
  for (const data of ["", "{", "{}", "null", "1", "[]", '{"messageId":"a"}', '{"messageId":1,"body":"b"}']) {
    expect(decodeJob("7", data)).toEqual({ messageId: "7", body: data });
  }
  expect(decodeJob("7", '"text"')).toEqual({ messageId: "7", body: "text" });
});

test("different message ids have different job ids, which BullMQ accepts", () => {
  const ids = ["a:b", "a%3Ab", "a-b", "a%b", "12", "wait", ""].map(jobIdOf);
  expect(new Set(ids).size).toBe(ids.length);
  for (const id of ids) expect(id).toMatch(/^m-[^:]*$/);
});

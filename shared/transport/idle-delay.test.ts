import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { IdleDelay } from "./idle-delay.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("an idle queue is looked at less and less, down to once in five seconds, however many receives wait", async () => {
  const idle = new IdleDelay();
  const looks: number[] = [];
  const stop = new AbortController();
  const waiting = Array.from({ length: 8 }, () =>
    idle.poll(async () => {
      looks.push(Date.now());
      return [];
    }, stop.signal));
  await vi.advanceTimersByTimeAsync(60_000);
  const looksBetween = (from: number, to: number) => looks.filter((at) => at >= started + from && at < started + to).length;
  const started = looks[0] ?? 0;
  expect(looksBetween(0, 1)).toBeLessThanOrEqual(8);
  expect(looksBetween(1, 60_000)).toBeLessThanOrEqual(30);
  expect(looksBetween(30_000, 60_000)).toBeGreaterThanOrEqual(5);
  expect(looksBetween(30_000, 60_000)).toBeLessThanOrEqual(13);
  stop.abort();
  await vi.advanceTimersByTimeAsync(0);
  expect(await Promise.all(waiting)).toEqual(Array(8).fill([]));
});

test("what is found is found by one, and the others look again at once", async () => {
  const idle = new IdleDelay();
  const stop = new AbortController();
  const messages: string[] = [];
  const look = async () => messages.splice(0, 1);
  const receives = [idle.poll(look, stop.signal), idle.poll(look, stop.signal)];
  await vi.advanceTimersByTimeAsync(30_000);
  messages.push("a", "b");
  await vi.advanceTimersByTimeAsync(5_000);
  expect((await Promise.all(receives)).flat().sort()).toEqual(["a", "b"]);
});

test("a wake ends the wait", async () => {
  const idle = new IdleDelay();
  const messages: string[] = [];
  const receive = idle.poll(async () => messages.splice(0), new AbortController().signal);
  await vi.advanceTimersByTimeAsync(30_000);
  messages.push("a");
  idle.wake();
  await vi.advanceTimersByTimeAsync(0);
  expect(await receive).toEqual(["a"]);
});

test("a look that fails rejects its receive only", async () => {
  const idle = new IdleDelay();
  const stop = new AbortController();
  await expect(idle.poll(() => Promise.reject(new Error("away")), stop.signal)).rejects.toThrow("away");
  expect(await idle.poll(async () => ["a"], stop.signal)).toEqual(["a"]);
});

test("a look under way when the signal aborts is awaited, and what it found is returned", async () => {
  const idle = new IdleDelay();
  const stop = new AbortController();
  const { promise, resolve } = Promise.withResolvers<string[]>();
  const receive = idle.poll(() => promise, stop.signal);
  stop.abort();
  resolve(["locked by now"]);
  expect(await receive).toEqual(["locked by now"]);
});

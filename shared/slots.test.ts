import { expect, test } from "vitest";
import { createSlots } from "./slots.ts";

const never = new AbortController().signal;

test("takes what is free, up to the most it wants, and waits only where nothing is", async () => {
  const slots = createSlots(3);
  expect(await slots.take(2, never)).toBe(2);
  expect(await slots.take(5, never)).toBe(1);
  const later = slots.take(5, never);
  slots.give(2);
  expect(await later).toBe(2);
});

test("who came first is served first, and a newcomer does not pass those who wait", async () => {
  const slots = createSlots(1);
  await slots.take(1, never);
  const order: string[] = [];
  const taking = ["a", "b", "c"].map((name) => slots.take(1, never).then(() => order.push(name)));
  slots.give(1);
  await taking[0];
  const newcomer = slots.take(1, never).then(() => order.push("newcomer"));
  for (let given = 0; given < 3; given++) slots.give(1);
  await Promise.all([...taking, newcomer]);
  expect(order).toEqual(["a", "b", "c", "newcomer"]);
});

test("an abort ends the wait with nothing, and takes nothing from those behind", async () => {
  const slots = createSlots(1);
  await slots.take(1, never);
  const stopping = new AbortController();
  const left = slots.take(1, stopping.signal);
  const behind = slots.take(1, never);
  stopping.abort();
  expect(await left).toBe(0);
  slots.give(1);
  expect(await behind).toBe(1);
  expect(await slots.take(1, stopping.signal)).toBe(0);
});

test("who wants all waits for them, and nobody who comes later gets ahead", async () => {
  const slots = createSlots(3);
  await slots.take(2, never);
  const order: string[] = [];
  const all = slots.takeAll(never).then((taken) => order.push(`all ${taken}`));
  const later = slots.take(1, never).then(() => order.push("later"));
  slots.give(1);
  slots.give(1);
  await all;
  expect(order).toEqual(["all 3"]);
  slots.give(3);
  await later;
  expect(order).toEqual(["all 3", "later"]);
});

test("who gives up waiting for all makes way for those behind", async () => {
  const slots = createSlots(2);
  await slots.take(1, never);
  const stopping = new AbortController();
  const all = slots.takeAll(stopping.signal);
  const behind = slots.take(1, never);
  stopping.abort();
  expect(await all).toBe(0);
  expect(await behind).toBe(1);
});

import { fc } from "../support/seeded.ts";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClaimCheck } from "../../shared/claim-check/claim-check.ts";
import { collect } from "../support/collect.ts";

export interface ClaimCheckUnderTest {
  /** Another client of the same store, as another process has. */
  open(): ClaimCheck;
  /** Like this reference, of a value that the store doesn't hold. */
  missingRef(ref: string): string;
  readonly foreignRefs: readonly string[];
  close(): Promise<void>;
}

/** What every claim check keeps. */
export function describeClaimCheck(name: string, start: () => Promise<ClaimCheckUnderTest>): void {
  describe(name, () => {
    let store: ClaimCheckUnderTest;
    let writer: ClaimCheck;
    let reader: ClaimCheck;

    beforeAll(async () => {
      store = await start();
      writer = store.open();
      reader = store.open();
    }, 30_000);
    afterAll(() => store?.close());

    test("lines come back as they were, in their order, to another client that knows only the reference", async () => {
      const lines = fc.array(fc.jsonValue({ stringUnit: "binary" }), { maxLength: 30 });
      await fc.assert(
        fc.asyncProperty(lines, async (written) => {
          const ref = await writer.writeLines("property/lines", written);
          const expected: unknown = JSON.parse(JSON.stringify(written));
          expect(await collect(reader.readLines(ref))).toEqual(expected);
        }),
        { numRuns: 50 },
      );
    });

    test("the reference is a URL", async () => {
      expect(URL.canParse(await writer.writeLines("url", [1]))).toBe(true);
    });

    test("no lines come back as none", async () => {
      expect(await collect(reader.readLines(await writer.writeLines("empty", [])))).toEqual([]);
    });

    test("any key but one with empty, . or .. segments keeps its value apart from the others", async () => {
      const keys = ["a.ndjson", "a/b/c", "colon:1/2", "50 %25", "hash#?query", "ünï/日本/🙂", "..a/b..", ".hidden", "A"];
      const refs = await Promise.all(keys.map((key) => writer.writeLines(`keys/${key}`, [key])));
      expect(new Set(refs).size).toBe(keys.length);
      const read = await Promise.all(refs.map((ref) => collect(reader.readLines(ref))));
      expect(read).toEqual(keys.map((key) => [key]));
      for (const key of ["", "..", "a/../b", "./a", "/a", "a//b", "a/"]) {
        await expect(writer.writeLines(key, [1]), key).rejects.toMatchObject({ name: "PermanentError" });
      }
    });

    test("lines and characters that lie across the borders of chunks are whole", async () => {
      // 11 MB of lines whose lengths share no factor with a chunk's, and one line larger than any chunk.
      const written = Array.from({ length: 1_000 }, (_, n) => "aé🙂".repeat(n) + n);
      written.push("日".repeat(2_000_000));
      const ref = await writer.writeLines("chunks", written);
      const read = await collect(reader.readLines(ref));
      expect(read.length).toBe(written.length);
      expect(read.every((line, n) => line === written[n])).toBe(true);
    }, 30_000);

    test("a second value under a key replaces the first", async () => {
      await writer.writeLines("twice", ["first", "longer"]);
      const ref = await writer.writeLines("twice", ["second"]);
      expect(await collect(reader.readLines(ref))).toEqual(["second"]);
    });

    test("a write that fails midway stores nothing, and leaves what was there", async () => {
      const ref = await writer.writeLines("broken", ["before"]);
      async function* breaks() {
        for (let n = 0; n < 100; n++) yield "x".repeat(100_000);
        throw new Error("the lines broke");
      }
      await expect(writer.writeLines("broken", breaks())).rejects.toThrow("the lines broke");
      expect(await collect(reader.readLines(ref))).toEqual(["before"]);
      await expect(writer.writeLines("broken", [undefined])).rejects.toMatchObject({ code: "contract-violation" });
      expect(await collect(reader.readLines(ref))).toEqual(["before"]);
    });

    test("of two that write under one key at once, one value stays, whole", async () => {
      const values = ["a", "b"].map((letter) => Array.from({ length: 60 }, () => letter.repeat(100_000)));
      const refs = await Promise.allSettled(values.map((lines) => writer.writeLines("race", lines)));
      const [ref] = refs.flatMap((settled) => settled.status === "fulfilled" ? [settled.value] : []);
      const read = await collect(reader.readLines(ref ?? ""));
      expect(values.some((lines) => JSON.stringify(lines) === JSON.stringify(read))).toBe(true);
    });

    test("what isn't there, and what another store holds, is a PermanentError", async () => {
      const ref = await writer.writeLines("there", [1]);
      for (const wrong of [store.missingRef(ref), ...store.foreignRefs, "", "there", "https://example.org/there"]) {
        await expect(collect(reader.readLines(wrong)), wrong).rejects.toMatchObject({
          name: "PermanentError",
          code: "unknown-task",
        });
      }
    });

    test("an aborted signal ends a write and a read with its reason", async () => {
      const reason = new Error("time to go");
      const writing = new AbortController();
      async function* endless() {
        for (let n = 0;; n++) {
          if (n === 20) writing.abort(reason);
          yield "x".repeat(1_000_000);
        }
      }
      await expect(writer.writeLines("aborted", endless(), writing.signal)).rejects.toBe(reason);

      const ref = await writer.writeLines("long", Array.from({ length: 100 }, () => "x".repeat(100_000)));
      const reading = new AbortController();
      const read = async () => {
        for await (const _ of reader.readLines(ref, reading.signal)) reading.abort(reason);
      };
      await expect(read()).rejects.toBe(reason);
    });

    test("a reader that stops early leaves no harm", async () => {
      const ref = await writer.writeLines("early", Array.from({ length: 10_000 }, (_, n) => ({ n })));
      for await (const line of reader.readLines(ref)) {
        expect(line).toEqual({ n: 0 });
        break;
      }
      expect(await collect(reader.readLines(ref))).toHaveLength(10_000);
    });
  });
}

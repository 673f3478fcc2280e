import { fc } from "../../test/support/seeded.ts";
import { expect, test } from "vitest";
import { collect } from "../../test/support/collect.ts";
import { decodeLines, encodeLines } from "./ndjson.ts";

test("lines survive any size of chunk on the way in and any cut on the way out, even where a chunk's memory is reused", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.jsonValue({ stringUnit: "binary" })),
      fc.integer({ min: 1, max: 200 }),
      fc.integer({ min: 1, max: 50 }),
      async (lines, chunkBytes, cut) => {
        const encoded = Buffer.concat(await collect(encodeLines(lines, chunkBytes)));
        const expected = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
        expect(encoded.toString()).toBe(expected);
        async function* chunks() {
          const reused = Buffer.alloc(cut);
          for (let at = 0; at < encoded.length; at += cut) yield reused.subarray(0, encoded.copy(reused, 0, at, at + cut));
        }
        const decoded = await collect(decodeLines(chunks(), "here"));
        expect(decoded).toEqual(lines.map((line) => JSON.parse(JSON.stringify(line))));
      },
    ),
  );
});

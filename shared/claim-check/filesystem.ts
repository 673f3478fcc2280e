import { mkdir, open, realpath, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { ClaimCheck } from "./claim-check.ts";
import { pathOfKey, unknownRef } from "./key.ts";
import { decodeLines, encodeLines } from "./ndjson.ts";

const chunkBytes = 256 * 1024;

/** A claim check in a directory that all its users share. Values appear whole: written beside their place, then renamed. */
export function createFilesystemClaimCheck(directory: string): ClaimCheck {
  const root = resolve(directory);

  /** The file a reference means; only ever one inside the directory, by way of no link either. */
  async function locate(ref: string): Promise<string> {
    try {
      const path = await realpath(fileURLToPath(ref));
      if (path.startsWith(await realpath(root) + sep)) return path;
    } catch (cause) {
      throw unknownRef(ref, cause);
    }
    throw unknownRef(ref);
  }

  return {
    async writeLines(key, lines, signal) {
      const path = join(root, pathOfKey(key));
      await mkdir(dirname(path), { recursive: true });
      const temporary = join(dirname(path), `.${basename(path).slice(0, 100)}.${crypto.randomUUID()}`);
      try {
        await using file = await open(temporary, "wx");
        for await (const chunk of encodeLines(lines, chunkBytes)) {
          signal?.throwIfAborted();
          await file.writeFile(chunk);
        }
        signal?.throwIfAborted();
        await file.sync();
        await rename(temporary, path);
      } catch (error) {
        await rm(temporary, { force: true });
        throw error;
      }
      return pathToFileURL(path).href;
    },

    async *readLines(ref, signal) {
      const path = await locate(ref);
      await using file = await open(path);
      async function* chunks() {
        const buffer = Buffer.allocUnsafe(chunkBytes);
        for (;;) {
          signal?.throwIfAborted();
          const { bytesRead } = await file.read(buffer, 0, chunkBytes);
          if (bytesRead === 0) return;
          yield buffer.subarray(0, bytesRead);
        }
      }
      yield* decodeLines(chunks(), ref);
    },
  };
}

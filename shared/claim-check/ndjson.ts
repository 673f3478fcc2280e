import { PermanentError } from "../errors.ts";

const newline = 0x0a;

/** The lines as NDJSON, in chunks of `chunkBytes` or a line more. */
export async function* encodeLines(
  lines: AsyncIterable<unknown> | Iterable<unknown>,
  chunkBytes: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  let chunk: Buffer<ArrayBuffer>[] = [];
  let bytes = 0;
  for await (const line of lines) {
    const json = JSON.stringify(line);
    if (json === undefined) throw new PermanentError("contract-violation", `a ${typeof line} is not a line of JSON`);
    const encoded = Buffer.from(`${json}\n`);
    chunk.push(encoded);
    bytes += encoded.length;
    if (bytes >= chunkBytes) {
      yield Buffer.concat(chunk);
      chunk = [];
      bytes = 0;
    }
  }
  if (bytes > 0) yield Buffer.concat(chunk);
}

/** The parsed lines of NDJSON that comes in chunks, cut anywhere. `source` is named in errors. */
export async function* decodeLines(chunks: AsyncIterable<Uint8Array>, source: string): AsyncGenerator<unknown> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let rest: Uint8Array[] = []; // of the line that goes on in the next chunk; split at bytes, so that no character is cut
  let number = 0;
  function parseLine(bytes: Uint8Array): unknown {
    number++;
    try {
      return JSON.parse(decoder.decode(bytes));
    } catch (cause) {
      throw new PermanentError("contract-violation", `line ${number} of ${source} is not JSON`, { cause });
    }
  }
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(newline); end >= 0; end = chunk.indexOf(newline, start)) {
      const line = chunk.subarray(start, end);
      yield parseLine(rest.length > 0 ? Buffer.concat([...rest, line]) : line);
      rest = [];
      start = end + 1;
    }
    if (start < chunk.length) rest.push(new Uint8Array(chunk.subarray(start))); // a copy: the chunk's memory may be reused
  }
  if (rest.length > 0) throw new PermanentError("contract-violation", `${source} ends in the middle of line ${number + 1}`);
}

/** A store for values too large for a row: write once under a key, read as a stream. */
export interface ClaimCheck {
  /**
   * Stores the lines as NDJSON under `key` and returns the reference to it, a URL. An existing value under the same key is
   * replaced; keys of task results contain the claim id, so no other attempt has the same one. A key is
   * segments between slashes; it can't be a folder of another key. Bounded memory.
   */
  writeLines(key: string, lines: AsyncIterable<unknown> | Iterable<unknown>, signal?: AbortSignal): Promise<string>;
  /** Streams the lines back, parsed. Rejects with PermanentError `unknown-task` if nothing is stored at `ref`. */
  readLines(ref: string, signal?: AbortSignal): AsyncIterable<unknown>;
}

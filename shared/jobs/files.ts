import * as v from "valibot";

/** 3 to 63 lower-case letters, digits and single hyphens, beginning and ending with a letter or digit. */
export const ContainerName = v.pipe(
  v.string(),
  v.regex(/^(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*$/, "must be the name of an Azure container"),
);

export const Prefix = v.optional(v.pipe(v.string(), v.maxLength(1024)), "");

/** With the engine's jitter these ten failures take two and a half minutes at least: storage may be away that long. */
export const storageRetry = { maxFailures: 10, backoffMs: 2_000, maxBackoffMs: 60_000 };

const MB = 1024 ** 2;
const upperBounds = { tiny: MB, small: 10 * MB, medium: 100 * MB, large: 1024 * MB, huge: Infinity };

export const SizeCategory = v.picklist(["tiny", "small", "medium", "large", "huge"]);
export type SizeCategory = v.InferOutput<typeof SizeCategory>;

/** Below 1 MB, 10 MB, 100 MB, 1 GB, and the rest; a MB is 1,048,576 bytes. */
export function sizeCategoryOf(bytes: number): SizeCategory {
  return SizeCategory.options.find((category) => bytes < upperBounds[category]) ?? "huge";
}

/** In MB, to two decimals. */
export function megabytes(bytes: number): number {
  return Math.round((bytes / MB) * 100) / 100;
}

/** `folder/sub` of `folder/sub/name.tif`; empty at the top. */
export function folderOf(name: string): string {
  return name.slice(0, Math.max(name.lastIndexOf("/"), 0));
}

/** `.tif` of `name.TIF`; empty where there is none, as in `.gitignore`, `name.` and `v1.0 draft`. */
export function extensionOf(name: string): string {
  const [, extension = ""] = /[^/](\.[^./\s]{1,31})$/.exec(name) ?? [];
  return extension.toLowerCase();
}

/** How many files have each extension: `(none)` has none, `(other)` is what is beyond the hundred most frequent. */
export const ExtensionCounts = v.record(v.string(), v.pipe(v.number(), v.integer()));
export type ExtensionCounts = v.InferOutput<typeof ExtensionCounts>;

const maxCounted = 10_000;
const maxListed = 100;

/** Counts extensions in bounded memory, however many there are: those that come after ten thousand others are `(other)`. */
export function createExtensionTally(): { add(extension: string): void; counts(): ExtensionCounts } {
  const counted = new Map<string, number>();
  let uncounted = 0;
  return {
    add(extension) {
      const key = extension || "(none)";
      const count = counted.get(key);
      if (count === undefined && counted.size >= maxCounted) uncounted++;
      else counted.set(key, (count ?? 0) + 1);
    },
    counts() {
      const byCount = [...counted].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
      const other = byCount.slice(maxListed).reduce((sum, [, count]) => sum + count, uncounted);
      return Object.fromEntries([...byCount.slice(0, maxListed), ...(other > 0 ? [["(other)", other] as const] : [])]);
    },
  };
}

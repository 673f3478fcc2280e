import { mkdir, readdir, stat, writeFile } from "node:fs/promises";
import { dirname, extname, join, posix, relative, sep } from "node:path";
import { BlobServiceClient } from "@azure/storage-blob";
import { fileTypes } from "./file-contents.ts";
import { createRandom } from "./random.ts";

/** A file on disk, under the name of its blob. */
export interface DemoFile {
  readonly name: string;
  readonly path: string;
  readonly bytes: number;
  readonly contentType: string;
}

const MiB = 1024 ** 2;
/** Names that somebody once forgot to encode. */
const folders = [
  "",
  "surveys/2024",
  "surveys/2024/coast",
  "surveys/2025/北海道/札幌",
  "Höhenmodelle/Bodensee",
  "relevés/été 2025",
  "реки/Волга",
  "نهر/النيل",
  "100% cover/a+b & c",
  "tags/#1/question?/semi;colon",
  "emoji/🌊🗺️",
  "deep/1/2/3/4/5/6/7/8/9/10",
];
const stems = ["tile", "station", "Überblick", "計測", "profil d’élévation", "mesh", "grid_%20_", "карта"];

/** Writes files of every type, 0 B to 5 MiB and mostly small, the same for the same seed. */
export async function writeDemoFiles(directory: string, { count, seed }: { count: number; seed: number }): Promise<void> {
  const random = createRandom(seed);
  const made = new Set<string>();
  for (let number = 0; number < count; number++) {
    const type = fileTypes[number % fileTypes.length];
    const folder = folders[Math.floor(random() * folders.length)] ?? "";
    const stem = stems[Math.floor(random() * stems.length)] ?? "";
    if (!type) continue;
    const extension = random() < 0.1 ? type.extension.toUpperCase() : type.extension;
    const path = join(directory, folder, `${stem}-${String(number).padStart(4, "0")}${extension}`);
    if (!made.has(dirname(path))) await mkdir(dirname(path), { recursive: true });
    made.add(dirname(path));
    await writeFile(path, type.create(chooseSize(number, random), random));
  }
}

function chooseSize(number: number, random: () => number): number {
  if (number < 2 * fileTypes.length) return 0;
  if (number < 3 * fileTypes.length) return number % 3 === 0 ? 5 * MiB : 100;
  if (number % 50 === 0) return Math.floor((0.1 + 0.9 * random()) * MiB);
  return Math.floor(100 * Math.exp(random() * 5)); // to 15 kB
}

/** The files that are on the disk, whoever put them there. */
export async function readDemoFiles(directory: string): Promise<readonly DemoFile[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return await Promise.all(
    entries.filter((entry) => entry.isFile()).map(async (entry) => {
      const path = join(entry.parentPath, entry.name);
      const extension = extname(path).toLowerCase();
      return {
        name: relative(directory, path).split(sep).join(posix.sep),
        path,
        bytes: (await stat(path)).size,
        contentType: fileTypes.find((type) => type.extension === extension)?.contentType ?? "",
      };
    }),
  );
}

const uploadsAtOnce = 16;

/** Uploads the files to a new container. */
export async function uploadFiles(
  connectionString: string,
  { container, files, signal, onUploaded }: {
    readonly container: string;
    readonly files: readonly DemoFile[];
    readonly signal: AbortSignal;
    readonly onUploaded: (count: number) => void;
  },
): Promise<void> {
  const client = BlobServiceClient.fromConnectionString(connectionString).getContainerClient(container);
  await client.create({ abortSignal: signal });
  const waiting = files.values();
  let uploaded = 0;
  const upload = async () => {
    for (const { name, path, contentType } of waiting) {
      await client.getBlockBlobClient(name).uploadFile(path, {
        abortSignal: signal,
        blobHTTPHeaders: { blobContentType: contentType },
      });
      onUploaded(++uploaded);
    }
  };
  await Promise.all(Array.from({ length: uploadsAtOnce }, upload));
}

export async function deleteContainer(connectionString: string, container: string): Promise<void> {
  await BlobServiceClient.fromConnectionString(connectionString).getContainerClient(container).deleteIfExists();
}

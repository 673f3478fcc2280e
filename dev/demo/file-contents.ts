import { crc32, deflateSync } from "node:zlib";

type Random = () => number;

export interface FileType {
  readonly extension: string;
  readonly contentType: string;
  /** About as many bytes as asked for, exactly where that leaves the file valid. */
  create(bytes: number, random: Random): Buffer;
}

/** What a geospatial container holds. Images are images and tables are tables; only the Parquet files have no real content. */
export const fileTypes: readonly FileType[] = [
  { extension: ".txt", contentType: "text/plain", create: (bytes, random) => createText(bytes, random) },
  { extension: ".md", contentType: "text/markdown", create: (bytes, random) => createText(bytes, random) },
  { extension: ".csv", contentType: "text/csv", create: createCsv },
  { extension: ".json", contentType: "application/json", create: createJson },
  { extension: ".geojson", contentType: "application/geo+json", create: createGeoJson },
  { extension: ".png", contentType: "image/png", create: createPng },
  { extension: ".tif", contentType: "image/tiff", create: createTiff },
  { extension: ".parquet", contentType: "application/vnd.apache.parquet", create: createParquet },
  { extension: "", contentType: "application/octet-stream", create: createNoise },
];

const words = ["river", "sluice", "gate", "basin", "Überlauf", "水門", "canal", "level", "flow", "écluse", "lock", "tide"];

function createText(bytes: number, random: Random): Buffer {
  let text = "";
  while (text.length < Math.min(bytes, 4096)) text += `${words[Math.floor(random() * words.length)]} `;
  return Buffer.alloc(bytes, bytes > 0 ? text : "");
}

function createCsv(bytes: number, random: Random): Buffer {
  const lines = ["station,longitude,latitude,level_m"];
  for (let length = 0, row = 1; length < bytes; length += lines.at(-1)?.length ?? 0) {
    lines.push(`S${row++},${longitude(random)},${latitude(random)},${(random() * 12).toFixed(2)}`);
  }
  return Buffer.from(bytes === 0 ? "" : `${lines.join("\n")}\n`);
}

function createJson(bytes: number, random: Random): Buffer {
  const readings: unknown[] = [];
  for (let length = 40; length < bytes; length += 40) {
    readings.push({ at: Math.floor(random() * 1e9), level: Number(random().toFixed(4)) });
  }
  return Buffer.from(JSON.stringify({ station: "S1", readings }));
}

function createGeoJson(bytes: number, random: Random): Buffer {
  const features: unknown[] = [];
  for (let length = 50; length < bytes; length += 110) {
    const coordinates = [Number(longitude(random)), Number(latitude(random))];
    features.push({ type: "Feature", geometry: { type: "Point", coordinates }, properties: { id: features.length } });
  }
  return Buffer.from(JSON.stringify({ type: "FeatureCollection", features }));
}

/** Grey noise. */
function createPng(bytes: number, random: Random): Buffer {
  const side = Math.max(1, Math.floor(Math.sqrt(Math.max(bytes - 80, 1))));
  const rows = createNoise(side * (side + 1), random);
  for (let row = 0; row < side; row++) rows[row * (side + 1)] = 0; // no filter
  const header = Buffer.alloc(13);
  header.writeUInt32BE(side, 0);
  header.writeUInt32BE(side, 4);
  header[8] = 8; // bits; the colour type 0 is grey
  return Buffer.concat([
    Buffer.from("89504e470d0a1a0a", "hex"),
    pngChunk("IHDR", header),
    pngChunk("IDAT", deflateSync(rows, { level: 0 })),
    pngChunk("IEND", Buffer.alloc(0)),
  ]);
}

function pngChunk(type: string, content: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), content]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.length);
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, checksum]);
}

/** One strip of grey noise, one row high. */
function createTiff(bytes: number, random: Random): Buffer {
  const width = Math.max(1, bytes - 8 - 2 - 8 * 12 - 4);
  const entries = [[256, width], [257, 1], [258, 8], [259, 1], [262, 1], [273, 110], [278, 1], [279, width]] as const;
  const head = Buffer.alloc(110);
  head.write("II*\0", "latin1");
  head.writeUInt32LE(8, 4);
  head.writeUInt16LE(entries.length, 8);
  entries.forEach(([tag, value], index) => {
    const at = 10 + index * 12;
    head.writeUInt16LE(tag, at);
    head.writeUInt16LE(4, at + 2); // an unsigned 32-bit number
    head.writeUInt32LE(1, at + 4);
    head.writeUInt32LE(value, at + 8);
  });
  return Buffer.concat([head, createNoise(width, random)]);
}

/** The frame of a Parquet file around noise. */
function createParquet(bytes: number, random: Random): Buffer {
  const footer = Buffer.alloc(8);
  footer.write("PAR1", 4, "latin1");
  return Buffer.concat([Buffer.from("PAR1"), createNoise(Math.max(bytes - 12, 0), random), footer]);
}

function createNoise(bytes: number, random: Random): Buffer {
  const block = Buffer.alloc(Math.min(bytes, 4096));
  for (let at = 0; at < block.length; at++) block[at] = random() * 256;
  return bytes > 0 ? Buffer.alloc(bytes, block) : Buffer.alloc(0);
}

function longitude(random: Random): string {
  return (random() * 360 - 180).toFixed(6);
}

function latitude(random: Random): string {
  return (random() * 180 - 90).toFixed(6);
}

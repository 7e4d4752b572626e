/**
 * An index as a file: safetensors of its rows and of its items as JSON, with a checksum. It is read and written a block of
 * rows at a time, so that an index as large as memory allows needs no second copy.
 */
import { FormatError } from "../errors.ts";
import { sha256Hex } from "../files/checksum.ts";
import { checkBytes, checkValues } from "../files/json.ts";
import {
  headerEnd,
  parseSpans,
  type SafetensorsSpan,
  type SafetensorsTensor,
  serializeHeader,
} from "../files/safetensors.ts";
import { readBytes, type Source } from "../files/source.ts";
import type { Item } from "./flat-index.ts";
import {
  INDEX_PRECISIONS,
  type IndexPrecision,
  MOST_DIMENSIONS,
  type Rows,
  type StoredRows,
} from "./rows.ts";

const FORMAT = "simcse-edge index 1";
/** The order in which the checksum takes the tensors, of which a file has some. */
const TENSORS = ["vectors", "codes", "scales", "items"] as const;

/** Most bytes of the items as JSON: V8's strings have at most 2^29 characters. */
const MOST_ITEMS_BYTES = 500_000_000;
/** Most values of an item, on average: its id and text, and what its metadata has. */
const MOST_VALUES = 64;

/** SHA-256 of bytes that come in chunks. */
export interface Hash {
  update(bytes: Uint8Array): unknown;
  digest(encoding: "hex"): string | Promise<string>;
}
export type NewHash = () => Hash;

/** A hash where there is none that takes chunks: of one copy of all of them. */
export function collectHash(): Hash {
  const chunks: Uint8Array[] = [];
  return {
    update: (bytes) => chunks.push(bytes),
    digest: () => sha256Hex(concat(chunks)),
  };
}

export function concat(chunks: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/** A file whose header has been read. */
export interface IndexFile {
  readonly precision: IndexPrecision;
  readonly dimension: number;
  /**
   * Reads the rows to their place, and then the items.
   * @throws FormatError for tensors that are absent, of another shape, damaged, or no numbers
   */
  read(rows: Rows): Promise<Item[]>;
}

/**
 * Reads the header of an index. `file` names it in errors.
 * @throws FormatError for a file that is none
 */
export async function openIndexFile(source: Source, file: string): Promise<IndexFile> {
  const { length } = source;
  const start = headerEnd(await readBytes(source, 0, Math.min(8, length)), length, file);
  const { spans, metadata } = parseSpans(await readBytes(source, 0, start), length, file);
  const { format = "another safetensors file", dimension = "", sha256 } = metadata;
  const precision = INDEX_PRECISIONS.find((name) => name === metadata["precision"]);
  if (format !== FORMAT || precision === undefined) {
    throw new FormatError(`${file}: expected ${FORMAT}, found ${format}; build the index again`);
  }
  if (!(/^\d{1,4}$/.test(dimension) && +dimension >= 1 && +dimension <= MOST_DIMENSIONS)) {
    throw new FormatError(
      `${file}: expected a dimension from 1 to ${MOST_DIMENSIONS}, found ${JSON.stringify(dimension.slice(0, 20))}`,
    );
  }
  const read = async (rows: Rows): Promise<Item[]> => {
    const count = (spans.get("vectors") ?? spans.get("codes"))?.shape[0] ?? 0;
    const stored = rows.stored(count);
    const parts = Object.entries(stored).map(
      ([name, part]) => [name, part, expectSpan(spans.get(name), name, part, file)] as const,
    );
    const sums: Record<string, string> = {};
    let alien: string | undefined;
    for (const [name, part, { begin, end }] of parts) {
      const bytes = source.part(begin, end);
      const at = await rows.fill(part, bytes);
      if (at !== undefined) alien ??= `${name}[${at}]`;
      sums[name] = await bytes.sha256();
    }
    const { begin, end } = spans.get("items") ?? refuseItems(file);
    checkBytes(end - begin, MOST_ITEMS_BYTES, file, "items");
    const json = await readBytes(source, begin, end);
    sums["items"] = await sha256Hex(json);
    const sum = await checksum(sums, precision, dimension);
    if (sum !== sha256) {
      throw new FormatError(
        `${file}: damaged: expected sha256 ${sha256}, found ${sum}; build the index again`,
      );
    }
    if (alien !== undefined) {
      throw new FormatError(`${alien}: expected numbers, found NaN or Infinity in ${file}`);
    }
    checkValues(json, MOST_VALUES * count + 1, file, "items");
    const items = parseItems(json, file);
    if (items.length === count) return items;
    throw new FormatError(`${file}: expected ${count} items, one a row, found ${items.length}`);
  };
  return { precision, dimension: Number(dimension), read };
}

type ChunkedTensor = Omit<SafetensorsTensor, "data"> & {
  readonly chunks: () => Iterable<Uint8Array>;
};

/**
 * The chunks of a file.
 * @throws FormatError for items that could not be read again
 */
export async function* writeIndexFile(
  rows: Rows,
  items: readonly Item[],
  newHash: NewHash,
): AsyncGenerator<Uint8Array> {
  const json = new TextEncoder().encode(JSON.stringify(items));
  checkBytes(json.length, MOST_ITEMS_BYTES, "the index", "items");
  checkValues(json, MOST_VALUES * items.length + 1, "the index", "items");
  const stored = Object.entries(rows.stored(items.length));
  const tensors: (readonly [string, ChunkedTensor])[] = [
    ...stored.map(([name, part]) => [name, { ...part, chunks: () => rows.chunks(part) }] as const),
    ["items", { dtype: "U8", shape: [json.length], chunks: () => [json] }],
  ];
  const sums: Record<string, string> = {};
  for (const [name, { chunks }] of tensors) {
    const hash = newHash();
    for (const chunk of chunks()) hash.update(chunk);
    sums[name] = await hash.digest("hex");
  }
  const dimension = String(rows.dimension);
  const sha256 = await checksum(sums, rows.precision, dimension);
  const metadata = { format: FORMAT, precision: rows.precision, dimension, sha256 };
  const { header, order } = serializeHeader(tensors, metadata);
  yield header;
  for (const [, { chunks }] of order) yield* chunks();
}

/** The checksum of a file: of the SHA-256 of its tensors, and of what their numbers are. */
async function checksum(
  sums: Readonly<Partial<Record<string, string>>>,
  precision: string,
  dimension: string,
): Promise<string> {
  const text = new TextEncoder();
  const header = await sha256Hex(text.encode(`${precision} ${dimension}`));
  return sha256Hex(text.encode([...TENSORS.map((name) => sums[name] ?? ""), header].join("")));
}

function expectSpan(
  span: SafetensorsSpan | undefined,
  name: string,
  { dtype, shape }: StoredRows,
  file: string,
): SafetensorsSpan {
  const expected = `${dtype} [${shape.join(", ")}]`;
  const found = span ? `${span.dtype} [${span.shape.join(", ")}]` : "none";
  if (span && found === expected) return span;
  throw new FormatError(`${name}: expected ${expected}, found ${found} in ${file}`);
}

/** The items of a file, whose checksum says nothing of who wrote it. */
function parseItems(bytes: Uint8Array, file: string): Item[] {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    json = undefined;
  }
  const ids = new Set<unknown>();
  const isItem = (item: unknown): item is Item => {
    const { id, text } = (item ?? {}) as Partial<Record<keyof Item, unknown>>;
    const fresh = (typeof id === "number" || typeof id === "string") && !ids.has(id);
    ids.add(id);
    return fresh && typeof text === "string";
  };
  return Array.isArray(json) && json.every(isItem) ? json : refuseItems(file);
}

function refuseItems(file: string): never {
  throw new FormatError(
    `${file}: items: expected a JSON array of texts with ids of their own; build the index again`,
  );
}

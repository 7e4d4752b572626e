/**
 * PostgreSQL's binary COPY format (https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"), of rows
 * `id text, text text, metadata jsonb, embedding vector(n)` as pgvector has them; bits are an `embedding bit(n)`.
 */
import { FormatError } from "../errors.ts";

/** Signature, flags, and the length of an extension that is not there. */
const HEADER = Uint8Array.from("PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0", (letter) =>
  letter.charCodeAt(0),
);
const TRAILER = Uint8Array.of(0xff, 0xff);
const COLUMNS = 4;
/** Of `jsonb` on the wire. */
const JSONB_VERSION = 1;
/** pgvector's most for the type `vector`. */
const MOST_DIMENSIONS = 16_000;

/** A row for `copyRow`; `embedding` is floats [n], or sign bits packed as sentence-transformers' ubinary does. */
export interface CopyRow {
  readonly id: string;
  readonly text: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly embedding: Float32Array | Uint8Array;
}

/**
 * The bytes of one row: a count of columns, and each with its length before it, most significant byte first.
 * @throws FormatError for a NUL in a string, which PostgreSQL cannot store, or more dimensions than pgvector has
 */
export function copyRow({ id, text, metadata, embedding }: CopyRow): Uint8Array<ArrayBuffer> {
  const json = JSON.stringify(metadata);
  if (`${id}${text}`.includes("\0") || /(?<!\\)(?:\\\\)*\\u0000/.test(json)) {
    throw new FormatError(
      `id ${JSON.stringify(id)}: expected strings without NUL, which PostgreSQL cannot store; remove it`,
    );
  }
  const encode = (string: string): Uint8Array => new TextEncoder().encode(string);
  const columns = [
    encode(id),
    encode(text),
    Uint8Array.of(JSONB_VERSION, ...encode(json)),
    embedding instanceof Float32Array ? vectorOf(embedding) : bitsOf(embedding),
  ];
  const row = new Uint8Array(columns.reduce((sum, { length }) => sum + 4 + length, 2));
  const view = new DataView(row.buffer);
  view.setInt16(0, COLUMNS);
  let at = 2;
  for (const column of columns) {
    view.setInt32(at, column.length);
    row.set(column, at + 4);
    at += 4 + column.length;
  }
  return row;
}

/** `vector` on the wire: its dimensions, two bytes of zero, and floats. */
function vectorOf(vector: Float32Array): Uint8Array {
  if (vector.length > MOST_DIMENSIONS) {
    throw new FormatError(
      `expected at most the ${MOST_DIMENSIONS} dimensions that pgvector has, found ${vector.length}; --dimensions keeps fewer`,
    );
  }
  const view = new DataView(new ArrayBuffer(4 + 4 * vector.length));
  view.setInt16(0, vector.length);
  vector.forEach((x, i) => view.setFloat32(4 + 4 * i, x));
  return new Uint8Array(view.buffer);
}

/** `bit` on the wire: how many bits, and bytes, the first bit on top. */
function bitsOf(bits: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + bits.length);
  new DataView(bytes.buffer).setInt32(0, 8 * bits.length);
  bytes.set(bits, 4);
  return bytes;
}

/** A file of rows, in parts. */
export async function* pgcopy(
  rows: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  yield HEADER;
  yield* rows;
  yield TRAILER;
}

/**
 * The rows of a file, as `copyRow` made them. `file` names it in errors.
 * @throws FormatError for bytes that are none
 */
export function copyRows(bytes: Uint8Array, file: string): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const rows: Uint8Array[] = [];
  let at = HEADER.length;
  const refuse = (): never => {
    throw new FormatError(`${file}: expected PostgreSQL's binary COPY format; make it again`);
  };
  if (!HEADER.every((byte, i) => bytes[i] === byte)) refuse();
  for (;;) {
    const begun = at;
    if (at + 2 > bytes.length) refuse();
    const columns = view.getInt16(at);
    at += 2;
    if (columns === -1) return at === bytes.length ? rows : refuse();
    for (let column = 0; column < columns; column++) {
      if (at + 4 > bytes.length) refuse();
      const length = view.getInt32(at);
      at += 4 + Math.max(length, 0);
    }
    if (at > bytes.length || columns < 0) refuse();
    rows.push(bytes.subarray(begun, at));
  }
}

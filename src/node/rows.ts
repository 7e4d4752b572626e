/**
 * Rows of sentences, from the files data sets come in: text, CSV, TSV, JSON Lines and Parquet, each but the last also
 * compressed (.gz, .zst). Rows stream: what has been read and not yet taken is a chunk, not a file.
 */
import { createReadStream } from "node:fs";
import {
  brotliDecompressSync,
  createGunzip,
  createZstdDecompress,
  gunzipSync,
  zstdDecompressSync,
} from "node:zlib";
import { FormatError } from "../errors.ts";

export interface Row {
  /** A cell for each column; one that is absent, or null in JSON and Parquet, is empty. */
  readonly cells: readonly string[];
  /** Line or row of the file it begins at, from 1, for errors. */
  readonly line: number;
  /** Whether a document begins here: in text, the lines between blank ones are one. */
  readonly begins: boolean;
}

/** The rows of a file and the names of their columns; text has one without a name. */
export interface RowFile {
  readonly columns: readonly string[];
  readonly rows: AsyncIterable<Row>;
}

/** A sentence, a pair, or a pair with a hard negative. */
const MOST_COLUMNS = 3;
/** Rows of a Parquet file read at once. */
const WINDOW = 10_000;

/**
 * Opens a file by its extension. `columns` chooses by name and order; without it a file's own columns are taken in their
 * order, at most three, as SimCSE has them: sentence, positive, hard negative.
 * @throws FormatError naming file and line: for an unknown extension or column, for what is not UTF-8, and for a row that
 * breaks its format; Error when the file cannot be read
 */
export async function openRows(file: string, columns?: readonly string[]): Promise<RowFile> {
  const extension = /\.(\w+)(?:\.(?:gz|zst))?$/.exec(file)?.[1];
  switch (extension) {
    case "txt":
      if (!columns) return openText(file);
      throw new FormatError(
        `${file}: text has one column without a name, expected ${columns.join(", ")}; give a csv, tsv, jsonl or parquet file`,
      );
    case "csv":
      return headed(file, csvRecords(file), columns);
    case "tsv":
      return headed(file, tsvRecords(file), columns);
    case "jsonl":
      return jsonRows(file, columns);
    case "parquet":
      return parquetRows(file, columns);
    default:
      throw new FormatError(
        `${file}: expected a name that ends in .txt, .csv, .tsv, .jsonl or .parquet, the first four also with .gz or .zst; ` +
          `rename or convert it`,
      );
  }
}

/**
 * The text of a UTF-8 file, decompressed, in chunks; `expected` says in errors what it should hold.
 * @throws FormatError for bytes that are not UTF-8 or not what their extension says; Error when it cannot be read
 */
export async function* readText(file: string, expected: string): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let line = 1;
  let chunk: Buffer = Buffer.alloc(0);
  try {
    for await (chunk of openBytes(file)) {
      const nul = chunk.indexOf(0);
      if (nul >= 0) {
        throw new FormatError(
          `${file}:${line + linesEnded(chunk.subarray(0, nul))}: found a NUL, ${expected}; if it is UTF-16, save it as UTF-8 again`,
        );
      }
      yield decoder.decode(chunk, { stream: true });
      line += linesEnded(chunk);
    }
    chunk = Buffer.alloc(0);
    yield decoder.decode();
  } catch (cause) {
    if (cause instanceof FormatError) throw cause;
    const { code = "", message } = cause as NodeJS.ErrnoException;
    if (code === "ERR_ENCODING_INVALID_ENCODED_DATA") {
      throw new FormatError(
        `${file}:${line + linesDecoded(chunk)}: found bytes that are not UTF-8, ${expected}; convert the file`,
        { cause },
      );
    }
    if (/^(?:Z_|ZSTD_)/.test(code)) {
      throw new FormatError(
        `${file}:${line}: expected what its extension says, found damaged compressed data (${message}); download it again`,
        { cause },
      );
    }
    throw new Error(`${file}: ${expected}, but it cannot be read (${message}); check the path`, {
      cause,
    });
  }
}

function linesEnded(bytes: Buffer): number {
  let count = 0;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) count++;
  return count;
}

/** How many lines end before the first that is not UTF-8; the first may have begun, and the last may end, in another chunk. */
function linesDecoded(chunk: Buffer): number {
  let line = 0;
  for (let start = chunk.indexOf(10) + 1; start > 0;) {
    line++;
    const end = chunk.indexOf(10, start);
    const rest = chunk.subarray(start, end < 0 ? chunk.length : end);
    try {
      new TextDecoder("utf-8", { fatal: true }).decode(rest, { stream: end < 0 });
    } catch {
      return line;
    }
    start = end + 1;
  }
  return 0;
}

function openBytes(file: string): AsyncIterable<Buffer> {
  if (file === "-") return process.stdin;
  const stream = createReadStream(file);
  if (!/\.(?:gz|zst)$/.test(file)) return stream;
  const decompressed = file.endsWith(".gz") ? createGunzip() : createZstdDecompress();
  stream.on("error", (error) => decompressed.destroy(error));
  return stream.pipe(decompressed);
}

/**
 * Lines with their numbers, without their ends (\n or \r\n) and a byte-order mark. Only what has been read and not yet taken
 * is in memory.
 * @throws as `readText`, and FormatError for what is too long to be a line
 */
export async function* lines(
  file: string,
  expected: string,
): AsyncGenerator<{ text: string; line: number }> {
  let parts: string[] = []; // of a line that has not ended: joined once, however many chunks it has
  let length = 0;
  let line = 0;
  for await (const chunk of readText(file, expected)) {
    const pieces = chunk.split("\n");
    for (const [i, piece] of pieces.entries()) {
      if (i > 0) {
        yield { text: parts.join("").replace(/\r$/, ""), line: ++line };
        parts = [];
        length = 0;
      }
      parts.push(piece);
      length += piece.length;
    }
    if (length <= LONGEST_LINE) continue;
    throw new FormatError(
      `${file}: expected lines of at most ${LONGEST_LINE} characters, found a longer one; is it text?`,
    );
  }
  if (length > 0) yield { text: parts.join("").replace(/\r$/, ""), line: ++line };
}

/** No text of a line is as long, but what a small compressed file becomes may be. */
const LONGEST_LINE = 1 << 24;

/** Opens a file as text, whatever its name: one sentence a line, blank lines between documents. */
export function openText(file: string): RowFile {
  return { columns: [""], rows: textRows(file) };
}

async function* textRows(file: string): AsyncGenerator<Row> {
  let begins = true;
  for await (const { text, line } of lines(file, "expected UTF-8 text with one sentence a line")) {
    const sentence = text.trim();
    if (sentence !== "") yield { cells: [sentence], line, begins };
    begins = sentence === "";
  }
}

interface Rec {
  readonly cells: string[];
  readonly line: number;
}

/** A quotation mark in TSV is text: the STS files are full of single ones. */
async function* tsvRecords(file: string): AsyncGenerator<Rec> {
  for await (const { text, line } of lines(file, "expected UTF-8 text with tabs between columns")) {
    if (text !== "") yield { cells: text.split("\t"), line };
  }
}

/**
 * CSV as RFC 4180 has it: a cell in quotation marks may hold commas, line ends, and quotation marks written twice. In a
 * cell without them a quotation mark is text, and lines may end in \n too. Blank lines are skipped.
 */
async function* csvRecords(file: string): AsyncGenerator<Rec> {
  let cells: string[] = [];
  let cell = "";
  let state: "start" | "plain" | "quoted" | "closed" = "start";
  let line = 1;
  let began = 1; // line of the record
  let opened = 1; // line of the quotation mark
  for await (const chunk of readText(file, "expected UTF-8 text with commas between columns")) {
    for (let i = 0; i < chunk.length; i++) {
      if (state === "quoted") {
        const end = chunk.indexOf('"', i);
        const text = chunk.slice(i, end < 0 ? chunk.length : end);
        for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) line++;
        cell += text;
        if (end < 0) break;
        state = "closed";
        i = end;
        continue;
      }
      const character = chunk[i]!;
      if (character === '"' && state !== "plain") {
        if (state === "closed") cell += '"';
        else opened = line;
        state = "quoted";
      } else if (character === ",") {
        cells.push(cell);
        cell = "";
        state = "start";
      } else if (character === "\n") {
        cells.push(state === "plain" ? cell.replace(/\r$/, "") : cell);
        line++;
        if (cells.length > 1 || cells[0] !== "") yield { cells, line: began };
        began = line;
        cells = [];
        cell = "";
        state = "start";
      } else if (state === "closed") {
        if (character !== "\r") {
          throw new FormatError(
            `${file}:${line}: expected a comma or the end of the line after a quoted cell, found ` +
              `${JSON.stringify(character)}; write a quotation mark within a cell twice`,
          );
        }
      } else {
        cell += character;
        state = "plain";
      }
    }
  }
  if (state === "quoted") {
    throw new FormatError(
      `${file}:${opened}: the quotation mark that opens a cell has no other that closes it; ` +
        `write a quotation mark within a cell twice`,
    );
  }
  cells.push(state === "plain" ? cell.replace(/\r$/, "") : cell);
  if (cells.length > 1 || cells[0] !== "") yield { cells, line: began };
}

/** Rows under a header. */
async function headed(
  file: string,
  records: AsyncGenerator<Rec>,
  wanted: readonly string[] | undefined,
): Promise<RowFile> {
  const first = await records.next();
  if (first.done) {
    throw new FormatError(`${file}: expected a line with the names of columns, found no line`);
  }
  const header = first.value.cells.map((name) => name.trim());
  const columns = chooseColumns(file, header, wanted);
  const places = columns.map((name) => header.indexOf(name));
  async function* rows(): AsyncGenerator<Row> {
    for await (const { cells, line } of records) {
      if (cells.length !== header.length) {
        throw new FormatError(
          `${file}:${line}: expected ${header.length} cells (${header.join(", ")}), found ${cells.length}`,
        );
      }
      yield { cells: places.map((place) => cells[place]!), line, begins: false };
    }
  }
  return { columns, rows: rows() };
}

async function jsonRows(file: string, wanted: readonly string[] | undefined): Promise<RowFile> {
  async function* objects(): AsyncGenerator<{ object: Record<string, unknown>; line: number }> {
    for await (const { text, line } of lines(
      file,
      "expected UTF-8 text with a JSON object a line",
    )) {
      if (text.trim() === "") continue;
      let object: unknown;
      try {
        object = JSON.parse(text);
      } catch (cause) {
        throw new FormatError(
          `${file}:${line}: expected a JSON object; ${(cause as Error).message}`,
          {
            cause,
          },
        );
      }
      if (typeof object !== "object" || object === null || Array.isArray(object)) {
        throw new FormatError(
          `${file}:${line}: expected a JSON object, found ${text.slice(0, 40)}`,
        );
      }
      yield { object: object as Record<string, unknown>, line };
    }
  }
  const found = objects();
  const first = await found.next();
  if (first.done) throw new FormatError(`${file}: expected a JSON object a line, found no line`);
  const { value } = first;
  const columns = chooseColumns(file, Object.keys(value.object), wanted);
  async function* rows(): AsyncGenerator<Row> {
    const row = ({ object, line }: typeof value): Row => ({
      cells: columns.map((name) => textOf(object[name], `${file}:${line}: ${name}`)),
      line,
      begins: false,
    });
    yield row(value);
    for await (const next of found) yield row(next);
  }
  return { columns, rows: rows() };
}

/** A page of Parquet is a megabyte or so; one that claims more than this is a bomb. */
const LARGEST_PAGE = 64 << 20;

async function parquetRows(file: string, wanted: readonly string[] | undefined): Promise<RowFile> {
  const { names, objects } = await openParquet(file);
  const columns = chooseColumns(file, names, wanted);
  async function* rows(): AsyncGenerator<Row> {
    for await (const { object, line } of objects(columns)) {
      const cells = columns.map((name) => textOf(object[name], `${file}:${line}: ${name}`));
      yield { cells, line, begins: false };
    }
  }
  return { columns, rows: rows() };
}

/**
 * Opens a Parquet file: the names of its columns, and its rows as objects of those that are asked for.
 * @throws FormatError for what is not Parquet, when opened or while its rows are read
 */
export async function openParquet(file: string): Promise<{
  readonly names: readonly string[];
  readonly objects: (
    columns: readonly string[],
  ) => AsyncGenerator<{ readonly object: Record<string, unknown>; readonly line: number }>;
}> {
  const refuse = (cause: unknown): never => {
    if (cause instanceof FormatError) throw cause;
    throw new FormatError(
      `${file}: expected Parquet with columns of strings; ${(cause as Error).message}`,
      { cause },
    );
  };
  const limit = (size: number): { maxOutputLength: number } => ({
    maxOutputLength: Math.min(Math.max(size, 1), LARGEST_PAGE),
  });
  try {
    const parquet = await import("hyparquet"); // most programs never read such a file
    const source = await parquet.asyncBufferFromFile(file);
    const metadata = await parquet.parquetMetadataAsync(source);
    const compressors = {
      GZIP: (bytes: Uint8Array, size: number) => gunzipSync(bytes, limit(size)),
      BROTLI: (bytes: Uint8Array, size: number) => brotliDecompressSync(bytes, limit(size)),
      ZSTD: (bytes: Uint8Array, size: number) => zstdDecompressSync(bytes, limit(size)),
    };
    const total = Number(metadata.num_rows);
    return {
      names: metadata.schema.slice(1).map(({ name }) => name),
      async *objects(columns) {
        for (let rowStart = 0; rowStart < total; rowStart += WINDOW) {
          const rowEnd = Math.min(total, rowStart + WINDOW);
          const options = { file: source, metadata, columns: [...columns], compressors };
          const window = await parquet
            .parquetReadObjects({ ...options, rowStart, rowEnd })
            .catch(refuse);
          if (window.length !== rowEnd - rowStart) {
            refuse(new Error(`rows end at ${rowStart + window.length} of ${total}`));
          }
          for (const [i, object] of window.entries()) yield { object, line: rowStart + i + 1 };
        }
      },
    };
  } catch (cause) {
    return refuse(cause);
  }
}

function chooseColumns(
  file: string,
  found: readonly string[],
  wanted: readonly string[] | undefined,
): readonly string[] {
  const columns = wanted ?? found;
  const missing = columns.find((name) => !found.includes(name));
  if (missing !== undefined) {
    throw new FormatError(`${file}: expected a column ${missing}, found ${found.join(", ")}`);
  }
  if (columns.length === 0 || columns.length > MOST_COLUMNS) {
    throw new FormatError(
      `${file}: expected 1 to ${MOST_COLUMNS} columns (sentence, positive, hard negative), found ` +
        `${columns.length} (${columns.join(", ")}); choose with --columns`,
    );
  }
  return columns;
}

function textOf(value: unknown, where: string): string {
  if (typeof value === "string") return value;
  if (value === undefined || value === null) return "";
  throw new FormatError(
    `${where}: expected a string, found ${typeof value}; choose columns of text with --columns`,
  );
}

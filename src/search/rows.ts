import type { Part as FilePart } from "../files/source.ts";
import { packSigns } from "../quantize/embeddings.ts";
import { Arena, type ElementType, type Tensor } from "../runtime/arena.ts";
import { instantiate } from "../runtime/instantiate.ts";
import type { InferenceKernels } from "../runtime/inference-kernels.ts";
import { searchInt8Scratch } from "../runtime/scratch.ts";
import type { Best } from "./best.ts";

/**
 * Number format of the rows: "float32"; "int8", a quarter of the memory, with scores off by about 0.001; "binary", where
 * a scan of the signs, 1/32 of the memory traffic, finds candidates and their float32 rows give the scores.
 */
export type IndexPrecision = "float32" | "int8" | "binary";
export const INDEX_PRECISIONS: readonly IndexPrecision[] = ["float32", "int8", "binary"];

export const MOST_DIMENSIONS = 8192;
/** Rows that are allocated and scanned at a time. */
const BLOCK_ROWS = 1024;
/** A block whose hopeful rows are more than one of so many is scored whole. */
const HOPEFUL = 16;
const PAGE = 65536;
const MOST_PAGES = 65536;

/** A component of what a row consists of; the last two follow from the others, and are never stored. */
type Part = "floats" | "codes" | "scales" | "bits" | "sums";
/** What rows are compared by: their signs, or what is best known of them. */
type By = "signs" | "values";
/** What a precision keeps of a row, as elements of a type. */
type Layout = Partial<Record<Part, { readonly dtype: ElementType; readonly count: number }>>;

function layoutOf(precision: IndexPrecision, cols: number): Layout {
  const floats = { dtype: "F32", count: cols } as const;
  const layouts: Readonly<Record<IndexPrecision, Layout>> = {
    float32: { floats },
    int8: {
      codes: { dtype: "I8", count: cols },
      scales: { dtype: "F32", count: 1 },
      sums: { dtype: "F32", count: 1 },
    },
    binary: { bits: { dtype: "I8", count: cols / 8 }, floats },
  };
  return layouts[precision];
}

/**
 * The vectors of an index in linear memory, and the kernels that compare a query with them. Rows lie in blocks, so that
 * memory grows without moving any.
 */
export class Rows {
  readonly dimension: number;
  readonly precision: IndexPrecision;
  readonly #kernels: InferenceKernels;
  readonly #memory: WebAssembly.Memory;
  readonly #arena = new Arena();
  readonly #cols: number; // the dimension, with zeros up to what the kernels want
  readonly #layout: Layout;
  readonly #blocks: Partial<Record<Part, Tensor>>[] = [];
  readonly #query: Tensor; // [cols]
  readonly #queryBits: Tensor; // [cols / 8] bytes
  readonly #scores: Tensor; // [BLOCK_ROWS]
  readonly #found: Tensor; // [1 + BLOCK_ROWS] int32
  readonly #scratch: Tensor;
  readonly #mostPages: number;
  // Views of what a scan writes, made once and not for each block.
  #scoreValues!: Float32Array;
  #foundRows!: Uint32Array;

  /** At most `most` rows; unless told, as many as a wasm memory holds. */
  constructor(
    kernels: WebAssembly.Module,
    dimension: number,
    precision: IndexPrecision,
    most?: number,
  ) {
    this.dimension = dimension;
    this.precision = precision;
    const multiple = { float32: 4, int8: 16, binary: 128 }[precision];
    this.#cols = Math.ceil(dimension / multiple) * multiple;
    this.#layout = layoutOf(precision, this.#cols);
    this.#query = this.#arena.tensor("query", this.#cols);
    this.#queryBits = this.#arena.scratch("query.bits", this.#cols / 8);
    this.#scores = this.#arena.tensor("scores", BLOCK_ROWS);
    this.#found = this.#arena.reserve("found", "I32", [1 + BLOCK_ROWS]);
    this.#scratch = this.#arena.scratch("scratch", searchInt8Scratch(this.#cols));
    this.#mostPages = most === undefined ? MOST_PAGES : this.#pagesOf(most);
    const initial = this.#arena.pages;
    this.#memory = new WebAssembly.Memory({ initial, maximum: this.#mostPages });
    this.#kernels = instantiate<InferenceKernels>(kernels, this.#memory);
    this.#kernels.join(0, 1);
    this.#viewScan();
  }

  /** Bytes of linear memory. */
  get bytes(): number {
    return this.#memory.buffer.byteLength;
  }

  /**
   * Makes room for so many rows; memory grows by a quarter at least, so that adding one by one stays cheap.
   * @throws RangeError for more than the memory holds
   */
  reserve(rows: number): void {
    while (this.#blocks.length * BLOCK_ROWS < rows) {
      const n = this.#blocks.length;
      const block: Partial<Record<Part, Tensor>> = {};
      for (const [part, { dtype, count }] of Object.entries(this.#layout) as Entries) {
        block[part] = this.#arena.reserve(`rows ${n}.${part}`, dtype, [BLOCK_ROWS, count]);
      }
      this.#blocks.push(block);
    }
    const present = this.bytes / PAGE;
    if (this.#arena.pages <= present) return;
    const ahead = Math.min(this.#mostPages, Math.ceil(1.25 * present));
    const pages = Math.max(this.#arena.pages, ahead);
    this.#memory.grow(pages - present);
    this.#viewScan();
  }

  /** Writes a vector into a row. */
  write(row: number, vector: Float32Array): void {
    if (this.#layout.floats) this.#view("floats", row, 1).set(bytesOf(vector));
    else {
      this.setQuery(vector);
      // prettier-ignore
      this.#kernels.quantizeRowsInt8(this.#address("codes", row), this.#address("scales", row), this.#query.ptr, 1, this.#cols);
    }
    this.#derive(row, 1);
  }

  /** The vector [dimension] of a row; of int8 as its codes have it. */
  read(row: number): Float32Array {
    const { buffer } = this.#memory;
    if (this.#layout.floats) {
      return new Float32Array(buffer, this.#address("floats", row), this.dimension).slice();
    }
    const [scale] = new Float32Array(buffer, this.#address("scales", row), 1);
    const codes = new Int8Array(buffer, this.#address("codes", row), this.dimension);
    return Float32Array.from(codes, (code) => code * scale!);
  }

  /** Copies a row to another place. */
  move(from: number, to: number): void {
    for (const part of Object.keys(this.#layout) as Part[]) {
      this.#view(part, to, 1).set(this.#view(part, from, 1));
    }
  }

  /** Sets what `compare` compares with. */
  setQuery(vector: Float32Array): void {
    const { buffer } = this.#memory;
    new Float32Array(buffer, this.#query.ptr, this.dimension).set(vector);
    if (this.#layout.bits) {
      new Uint8Array(buffer, this.#queryBits.ptr, this.#cols / 8).set(packSigns(vector));
    }
  }

  /**
   * Scores of the rows [first, last) against the query, by their signs or by what is best known of them. A block at a
   * time: `visit` gets the scores of rows from `row` on, which the next block overwrites.
   */
  compare(
    by: By,
    first: number,
    last: number,
    visit: (scores: Float32Array, row: number) => void,
  ): void {
    for (const { row, count } of blocks(first, last)) {
      this.#score(by, row, count);
      visit(this.#scoreValues.subarray(0, count), row);
    }
  }

  /** Offers the rows [first, last) to `best`, if their score is high enough. */
  select(by: By, first: number, last: number, best: Best): void {
    for (const { row, count } of blocks(first, last)) {
      const hopeful = this.#hopeful(row, count, best.bar);
      const whole = hopeful > count / HOPEFUL;
      if (whole) this.#score(by, row, count);
      const found = whole ? this.#selected(count, best.bar) : hopeful;
      for (let i = 1; i <= found; i++) {
        const at = this.#foundRows[i]!;
        if (!whole) this.#score(by, row + at, 1);
        best.offer(this.#scoreValues[whole ? at : 0]!, row + at);
      }
    }
  }

  /** Scores of rows of one block. */
  #score(by: By, row: number, count: number): void {
    const k = this.#kernels;
    const scores = this.#scores.ptr;
    const query = this.#query.ptr;
    const cols = this.#cols;
    // prettier-ignore
    if (by === "signs") k.signAgreements(scores, this.#address("bits", row), this.#queryBits.ptr, count, cols);
    else if (this.#layout.floats) k.innerProducts(scores, this.#address("floats", row), query, count, cols);
    else k.innerProductsInt8(scores, this.#address("codes", row), this.#address("scales", row), query, count, cols, this.#scratch.ptr);
  }

  /** Finds the rows of one block whose score may reach `bar`: all, where nothing tells faster than to compute it. */
  #hopeful(row: number, count: number, bar: number): number {
    if (!this.#layout.sums || bar === -Infinity) return count;
    // prettier-ignore
    this.#kernels.hopefulInt8(this.#found.ptr, this.#address("codes", row), this.#address("scales", row), this.#address("sums", row), this.#query.ptr, count, this.#cols, bar, this.#scratch.ptr);
    return this.#foundRows[0]!;
  }

  /** Finds which of the scores are at least `bar`, in order. @returns how many; `#foundRows` has them behind that */
  #selected(count: number, bar: number): number {
    this.#kernels.selectScores(this.#found.ptr, this.#scores.ptr, count, bar);
    return this.#foundRows[0]!;
  }

  #viewScan(): void {
    this.#scoreValues = new Float32Array(this.#memory.buffer, this.#scores.ptr, BLOCK_ROWS);
    this.#foundRows = new Uint32Array(this.#memory.buffer, this.#found.ptr, 1 + BLOCK_ROWS);
  }

  /** The bytes of a row, part by part, for a store that keeps each row by itself. */
  save(row: number): Uint8Array<ArrayBuffer> {
    const parts = this.#storedParts().map((part) => this.#view(part, row, 1));
    const saved = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
    let offset = 0;
    for (const part of parts) {
      saved.set(part, offset);
      offset += part.length;
    }
    return saved;
  }

  /** The inverse of `save`. */
  restore(row: number, saved: Uint8Array): void {
    let offset = 0;
    for (const part of this.#storedParts()) {
      const target = this.#view(part, row, 1);
      target.set(saved.subarray(offset, offset + target.length));
      offset += target.length;
    }
    this.#derive(row, 1);
  }

  #storedParts(): Part[] {
    return Object.values(this.stored(0)).map(({ part }) => part);
  }

  /** What a file has of `rows` rows, by name, without what follows from it. */
  stored(rows: number): Record<string, StoredRows> {
    if (this.#layout.floats) {
      return { vectors: { part: "floats", dtype: "F32", shape: [rows, this.dimension] } };
    }
    return {
      codes: { part: "codes", dtype: "I8", shape: [rows, this.dimension] },
      scales: { part: "scales", dtype: "F32", shape: [rows] },
    };
  }

  /** The bytes of a stored part, a block at a time; each is overwritten or moved by what changes the rows. */
  *chunks({ part, dtype, shape }: StoredRows): Generator<Uint8Array> {
    for (const { row, count } of blocks(0, shape[0]!)) {
      const rows = this.#view(part, row, count);
      const used = count * bytesOfRow({ dtype, shape });
      if (used < rows.length) yield copyRows(new Uint8Array(used), rows, count);
      else yield rows;
    }
  }

  /**
   * Reads a stored part, a block at a time, straight to its place.
   * @returns the first row with a component that is no number, if there is one
   */
  async fill({ part, dtype, shape }: StoredRows, file: FilePart): Promise<number | undefined> {
    let alien: number | undefined;
    this.reserve(shape[0]!);
    for (const { row, count } of blocks(0, shape[0]!)) {
      const rows = this.#view(part, row, count);
      const used = count * bytesOfRow({ dtype, shape });
      if (used < rows.length) {
        const chunk = new Uint8Array(used);
        await file.read(chunk);
        copyRows(rows, chunk, count);
      } else {
        await file.read(rows);
      }
      if (dtype === "F32" && alien === undefined) {
        const values = new Float32Array(rows.buffer, rows.byteOffset, rows.length / 4);
        const at = firstAlien(values);
        if (at >= 0) alien = row + Math.floor((at * count) / values.length);
      }
      this.#derive(row, count);
    }
    return alien;
  }

  /** Sets what follows from the stored parts of rows of one block. */
  #derive(row: number, count: number): void {
    if (this.#layout.bits) {
      for (let i = row; i < row + count; i++) this.#view("bits", i, 1).set(packSigns(this.read(i)));
    }
    if (this.#layout.sums) {
      // prettier-ignore
      this.#kernels.sumCodes(this.#address("sums", row), this.#address("codes", row), count, this.#cols);
    }
  }

  /** Pages of a memory that holds so many rows behind what is planned. */
  #pagesOf(rows: number): number {
    const row = Object.values(this.#layout).reduce(
      (bytes, { dtype, count }) => bytes + count * (dtype === "I8" ? 1 : 4),
      0,
    );
    const allocated = Math.ceil(rows / BLOCK_ROWS) * BLOCK_ROWS;
    return this.#arena.pages + Math.ceil((allocated * row) / PAGE);
  }

  #address(part: Part, row: number): number {
    const { dtype, count } = this.#layout[part]!;
    const stride = count * (dtype === "I8" ? 1 : 4);
    return this.#blocks[Math.floor(row / BLOCK_ROWS)]![part]!.ptr + (row % BLOCK_ROWS) * stride;
  }

  /** The bytes of `count` rows of one block. */
  #view(part: Part, row: number, count: number): Uint8Array {
    const { dtype, count: elements } = this.#layout[part]!;
    const length = count * elements * (dtype === "I8" ? 1 : 4);
    return new Uint8Array(this.#memory.buffer, this.#address(part, row), length);
  }
}

/** A part of the rows as a file has it: [rows, dimension], or [rows]. */
export interface StoredRows {
  readonly part: Part;
  readonly dtype: "F32" | "I8";
  readonly shape: readonly number[];
}

function bytesOfRow({ dtype, shape }: Pick<StoredRows, "dtype" | "shape">): number {
  return (dtype === "I8" ? 1 : 4) * (shape[1] ?? 1);
}

/** Copies rows between buffers in which they have different room. */
function copyRows(to: Uint8Array, from: Uint8Array, count: number): Uint8Array {
  const [wide, room] = [from.length / count, to.length / count];
  for (let row = 0; row < count; row++) {
    to.set(from.subarray(row * wide, row * wide + Math.min(wide, room)), row * room);
  }
  return to;
}

/** The rows [first, last) by the blocks that they lie in. */
function* blocks(first: number, last: number): Generator<{ row: number; count: number }> {
  for (let row = first, count; row < last; row += count) {
    count = Math.min(last - row, BLOCK_ROWS - (row % BLOCK_ROWS));
    yield { row, count };
  }
}

/** The place of the first value that is no number, or -1. */
function firstAlien(values: Float32Array): number {
  let sum = 0; // in double precision, where no sum of floats overflows
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return Number.isFinite(sum) ? -1 : values.findIndex((x) => !Number.isFinite(x));
}

type Entries = [Part, { readonly dtype: ElementType; readonly count: number }][];

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

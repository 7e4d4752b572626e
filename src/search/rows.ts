import { FormatError } from "../errors.ts";
import { packSigns } from "../quantize/embeddings.ts";
import type { SafetensorsTensor } from "../files/safetensors.ts";
import { Arena, type ElementType, type Tensor } from "../runtime/arena.ts";
import { instantiate } from "../runtime/instantiate.ts";
import type { InferenceKernels } from "../runtime/kernels.ts";
import { innerProductsInt8Scratch } from "../runtime/scratch.ts";

/**
 * Number format of the rows: "float32"; "int8", a quarter of the memory, with scores off by about 0.001; "binary", where
 * a scan of the signs, 1/32 of the memory traffic, finds candidates and their float32 rows give the scores.
 */
export type IndexPrecision = "float32" | "int8" | "binary";
export const INDEX_PRECISIONS: readonly IndexPrecision[] = ["float32", "int8", "binary"];

/** Rows that are allocated and scanned at a time. */
const BLOCK_ROWS = 1024;
const PAGE = 65536;
const MOST_PAGES = 65536;

/** A component of what a row consists of. */
type Part = "floats" | "codes" | "scales" | "bits";
/** What a precision keeps of a row, as elements of a type. */
type Layout = Partial<Record<Part, { readonly dtype: ElementType; readonly count: number }>>;

function layoutOf(precision: IndexPrecision, cols: number): Layout {
  const floats = { dtype: "F32", count: cols } as const;
  const layouts: Readonly<Record<IndexPrecision, Layout>> = {
    float32: { floats },
    int8: { codes: { dtype: "I8", count: cols }, scales: { dtype: "F32", count: 1 } },
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
  readonly #scratch: Tensor;

  constructor(kernels: WebAssembly.Module, dimension: number, precision: IndexPrecision) {
    this.dimension = dimension;
    this.precision = precision;
    const multiple = { float32: 4, int8: 16, binary: 128 }[precision];
    this.#cols = Math.ceil(dimension / multiple) * multiple;
    this.#layout = layoutOf(precision, this.#cols);
    this.#query = this.#arena.tensor("query", this.#cols);
    this.#queryBits = this.#arena.scratch("query.bits", this.#cols / 8);
    this.#scores = this.#arena.tensor("scores", BLOCK_ROWS);
    this.#scratch = this.#arena.scratch("scratch", innerProductsInt8Scratch(this.#cols));
    this.#memory = new WebAssembly.Memory({ initial: this.#arena.pages });
    this.#kernels = instantiate<InferenceKernels>(kernels, this.#memory);
    this.#kernels.join(0, 1);
  }

  /** Bytes of linear memory. */
  get bytes(): number {
    return this.#memory.buffer.byteLength;
  }

  /**
   * Makes room for so many rows; memory grows by a quarter at least, so that adding one by one stays cheap.
   * @throws RangeError for more than a wasm memory holds
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
    const pages = Math.max(this.#arena.pages, Math.min(MOST_PAGES, Math.ceil(1.25 * present)));
    this.#memory.grow(pages - present);
  }

  /** Writes a vector into a row. */
  write(row: number, vector: Float32Array): void {
    const { floats, codes, scales, bits } = this.#layout;
    if (floats) this.#bytes("floats", row).set(bytesOf(vector));
    if (bits) this.#bytes("bits", row).set(packSigns(vector));
    if (codes && scales) {
      this.setQuery(vector);
      // prettier-ignore
      this.#kernels.quantizeRowsInt8(this.#address("codes", row), this.#address("scales", row), this.#query.ptr, 1, this.#cols);
    }
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
      this.#bytes(part, to).set(this.#bytes(part, from));
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
    by: "signs" | "values",
    first: number,
    last: number,
    visit: (scores: Float32Array, row: number) => void,
  ): void {
    const k = this.#kernels;
    const scores = this.#scores.ptr;
    const query = this.#query.ptr;
    const cols = this.#cols;
    let row = first;
    while (row < last) {
      const rows = Math.min(last - row, BLOCK_ROWS - (row % BLOCK_ROWS));
      // prettier-ignore
      if (by === "signs") k.signAgreements(scores, this.#address("bits", row), this.#queryBits.ptr, rows, cols);
      else if (this.#layout.floats) k.innerProducts(scores, this.#address("floats", row), query, rows, cols);
      else k.innerProductsInt8(scores, this.#address("codes", row), this.#address("scales", row), query, rows, cols, this.#scratch.ptr);
      visit(new Float32Array(this.#memory.buffer, scores, rows), row);
      row += rows;
    }
  }

  /** The first `rows` rows as the tensors of a file. Signs are left out: the floats have them. */
  toTensors(rows: number): [string, SafetensorsTensor][] {
    const { floats } = this.#layout;
    const tensor = (part: Part, dtype: "F32" | "I8", ...shape: number[]): SafetensorsTensor => {
      const used = (dtype === "F32" ? 4 : 1) * (shape[0] ?? 1);
      const data = new Uint8Array(rows * used);
      for (let row = 0; row < rows; row++) {
        data.set(this.#bytes(part, row).subarray(0, used), row * used);
      }
      return { dtype, shape: [rows, ...shape], data };
    };
    if (floats) return [["vectors", tensor("floats", "F32", this.dimension)]];
    return [
      ["codes", tensor("codes", "I8", this.dimension)],
      ["scales", tensor("scales", "F32")],
    ];
  }

  /**
   * The inverse of `toTensors`. `file` names the tensors' file in errors.
   * @throws FormatError for a tensor that is absent or has another shape
   */
  fromTensors(rows: number, tensors: ReadonlyMap<string, SafetensorsTensor>, file: string): void {
    const find = (name: string, dtype: "F32" | "I8", ...shape: number[]): Uint8Array => {
      const stored = tensors.get(name);
      const expected = `${dtype} [${shape.join(", ")}]`;
      const found = stored ? `${stored.dtype} [${stored.shape.join(", ")}]` : "none";
      if (stored && found === expected) return stored.data;
      throw new FormatError(`${name}: expected ${expected}, found ${found} in ${file}`);
    };
    const row = (data: Uint8Array, i: number): Uint8Array =>
      data.slice((i * data.length) / rows, ((i + 1) * data.length) / rows);
    if (this.#layout.floats) {
      const vectors = find("vectors", "F32", rows, this.dimension);
      this.reserve(rows);
      for (let i = 0; i < rows; i++) {
        const vector = new Float32Array(row(vectors, i).buffer);
        expectFinite(vector, `vectors[${i}]`, file);
        this.write(i, vector);
      }
    } else {
      const codes = find("codes", "I8", rows, this.dimension);
      const scales = find("scales", "F32", rows);
      expectFinite(new Float32Array(scales.slice().buffer), "scales", file);
      this.reserve(rows);
      for (let i = 0; i < rows; i++) {
        this.#bytes("codes", i).set(row(codes, i));
        this.#bytes("scales", i).set(row(scales, i));
      }
    }
  }

  #address(part: Part, row: number): number {
    const { dtype, count } = this.#layout[part]!;
    const stride = count * (dtype === "I8" ? 1 : 4);
    return this.#blocks[Math.floor(row / BLOCK_ROWS)]![part]!.ptr + (row % BLOCK_ROWS) * stride;
  }

  #bytes(part: Part, row: number): Uint8Array {
    const { dtype, count } = this.#layout[part]!;
    const length = count * (dtype === "I8" ? 1 : 4);
    return new Uint8Array(this.#memory.buffer, this.#address(part, row), length);
  }
}

function expectFinite(values: Float32Array, name: string, file: string): void {
  const at = values.findIndex((x) => !Number.isFinite(x));
  if (at < 0) return;
  throw new FormatError(`${name}: component ${at} is ${values[at]}, expected a number in ${file}`);
}

type Entries = [Part, { readonly dtype: ElementType; readonly count: number }][];

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

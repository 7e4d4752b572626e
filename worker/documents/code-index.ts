/**
 * The vectors of a store of documents as int8 codes in memory: 392 bytes and the table below for 384 dimensions. A document is a
 * row number here, and nothing else of it is in memory.
 */
import { Best } from "../../src/search/best.ts";
import { Rows } from "../../src/search/rows.ts";
import type { VectorSpace } from "./store.ts";

/** Bytes of a row beside its vector: whether it is live, its score during some searches, and its number once it is free. */
const ROW_BYTES = 12;
/** So many times as many rows come with each part of a ranking. */
const GROWTH = 4;

/** Documents whose vectors fit so many bytes. */
export function documentsIn(bytes: number, { dimension }: VectorSpace): number {
  return Math.floor(bytes / (Math.ceil(dimension / 16) * 16 + 8 + ROW_BYTES));
}

export class CodeIndex {
  readonly space: VectorSpace;
  /** Most rows. */
  readonly most: number;
  readonly #rows: Rows;
  readonly #candidates: Rows;
  readonly #live: Uint8Array; // [most] 1 where a search may find a row
  readonly #gaps: number[] = []; // rows below the end that are free
  #end = 0;

  /** `kernels` is the edge binary (or portable). */
  constructor(kernels: WebAssembly.Module, space: VectorSpace, most: number) {
    this.space = space;
    this.most = most;
    this.#rows = new Rows(kernels, space.dimension, "int8", most);
    this.#candidates = new Rows(kernels, space.dimension, "float32");
    this.#live = new Uint8Array(most);
  }

  /** Rows that are free. */
  get free(): number {
    return this.most - this.#end + this.#gaps.length;
  }

  /** Takes a row that is free, of which there must be one. */
  take(): number {
    const row = this.#gaps.pop() ?? this.#end;
    this.#reach(row);
    return row;
  }

  /** Sets a vector. @returns what `restore` takes */
  write(row: number, vector: Float32Array): Uint8Array {
    this.#rows.write(row, vector);
    this.#live[row] = 1;
    return this.#rows.save(row);
  }

  /**
   * Sets a row from its code; one without belongs to another space, and is taken but never found. Rows come in order.
   * @throws Error for a row that has no place
   */
  restore(row: number, code: Uint8Array | undefined): void {
    if (row >= this.most) {
      const advice = "raise MAX_INDEX_BYTES, or remove all documents and write them again";
      throw new Error(`internal: document ${row} of at most ${this.most} is kept; ${advice}`);
    }
    for (let gap = this.#end; gap < row; gap++) this.#gaps.push(gap);
    this.#reach(row);
    if (!code) return;
    this.#rows.restore(row, code);
    this.#live[row] = 1;
  }

  /** Frees rows. */
  release(rows: readonly number[]): void {
    for (const row of rows) this.#live[row] = 0;
    this.#gaps.push(...rows);
  }

  /** Rows by their score against a query [dimension], best first: at first `count` of them, then more and more at a time. */
  *ranked(query: Float32Array, count: number): Generator<number[]> {
    const isLive = (row: number): boolean => this.#live[row] === 1;
    let best = new Best(count, -Infinity, Infinity, isLive);
    this.#rows.setQuery(query);
    this.#rows.select("values", 0, this.#end, best);
    let found = best.take();
    if (found.length > 0) yield found.map(({ row }) => row);
    if (found.length < count) return;
    // These nearly always suffice. Only where a filter lets few pass does every row need its score.
    const scores = new Float32Array(this.#end);
    this.#rows.setQuery(query);
    this.#rows.compare("values", 0, this.#end, (part, row) => scores.set(part, row));
    for (let size = GROWTH * count; found.length > 0; size *= GROWTH) {
      const last = found.at(-1)!;
      const isNext = (row: number): boolean =>
        isLive(row) && (scores[row]! < last.score || row > last.row);
      best = new Best(size, -Infinity, last.score, isNext);
      best.offerAll(scores);
      found = best.take();
      if (found.length > 0) yield found.map(({ row }) => row);
    }
  }

  /** Inner products of a query [dimension] with vectors [candidates][dimension] themselves. */
  scores(query: Float32Array, vectors: readonly Float32Array[]): number[] {
    const scores: number[] = [];
    this.#candidates.reserve(vectors.length);
    vectors.forEach((vector, i) => this.#candidates.write(i, vector));
    this.#candidates.setQuery(query);
    this.#candidates.compare("values", 0, vectors.length, (part) => scores.push(...part));
    return scores;
  }

  #reach(row: number): void {
    this.#end = Math.max(this.#end, row + 1);
    this.#rows.reserve(this.#end);
  }
}

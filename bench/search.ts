import { readFileSync } from "node:fs";
import { FlatIndex } from "../src/search/flat-index.ts";
import { INDEX_PRECISIONS } from "../src/search/rows.ts";
import { alternate, type Case, giga, readCase, singleRank, type Table } from "./measure.ts";

const ROWS = 200_000;
const COLS = 384;
/** Bytes that a search reads of a row. */
const BYTES = { float32: 4 * COLS, int8: COLS + 4, binary: COLS / 8 };

/** Bytes a second that a whole search reads, its ten best included, against reading as many as the floats have and no more. */
export function search(): Table[] {
  const kernels = new WebAssembly.Module(readFileSync("build/edge.wasm"));
  const { t, buffer } = singleRank("node", (arena) => ({
    x: arena.tensor("x", ROWS, COLS).ptr,
  }));
  const vector = (row: number): Float32Array =>
    new Float32Array(buffer, t.x + 4 * COLS * row, COLS);
  const texts = Array.from({ length: ROWS }, () => "");
  const vectors = texts.map((_, row) => vector(row));
  const query = vector(7);
  const cases: Case[] = INDEX_PRECISIONS.map((precision) => {
    const index = new FlatIndex(kernels, COLS, precision);
    index.add(texts, vectors);
    const run = (): void => void index.search(query, { topK: 10 });
    return { name: `${precision} search`, work: ROWS * BYTES[precision], run };
  });
  const rows = giga(alternate([readCase(4 * ROWS * COLS), ...cases]));
  return [
    { title: `search, ${ROWS} x ${COLS}, one thread`, unit: "GB/s", reference: "read", rows },
  ];
}

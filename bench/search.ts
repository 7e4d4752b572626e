import { readFileSync } from "node:fs";
import { FlatIndex } from "../src/search/flat-index.ts";
import { INDEX_PRECISIONS } from "../src/search/rows.ts";
import { CodeIndex } from "../worker/documents/code-index.ts";
import { alternate, type Case, giga, readCase, singleRank, type Table } from "./measure.ts";

const ROWS = 200_000;
/** Of the int8 indexes, whose rows repeat the others'. */
const MANY = 1_000_000;
const COLS = 384;
/** Bytes that a search reads of a row. */
const BYTES = { float32: 4 * COLS, int8: COLS + 4, binary: COLS / 8 };

/** Bytes a second that a whole search reads, its ten best included, against reading as many as the floats have and no more; also
 * of a million rows of int8, and of the candidates that documents are found by. */
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
  const many = Array.from({ length: MANY }, (_, row) => row % ROWS);
  const flat = new FlatIndex(kernels, COLS, "int8");
  flat.add(
    many.map(() => ""),
    many.map((row) => vectors[row]!),
  );
  const documents = new CodeIndex(kernels, { name: "", dimension: COLS }, MANY);
  for (const row of many) documents.write(documents.take(), vectors[row]!);
  const work = MANY * BYTES.int8;
  const manyCases: Case[] = [
    { name: "int8 search", work, run: () => void flat.search(query, { topK: 10 }) },
    { name: "documents, candidates", work, run: () => void documents.ranked(query, 64).next() },
  ];
  const table = (count: number, of: Case[]): Table => {
    const rows = giga(alternate([readCase(4 * ROWS * COLS), ...of]));
    const title = `search, ${count} x ${COLS}, one thread`;
    return { title, unit: "GB/s", reference: "read", rows };
  };
  return [table(ROWS, cases), table(MANY, manyCases)];
}

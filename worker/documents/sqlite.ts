/**
 * Documents in SQLite, and an index over them in memory. SQLite is what counts: the index is made of it, row by row, when it is
 * first needed, and changes with it. The index finds candidates; their float32 vectors, in SQLite, give the scores.
 */
import type { Metadata } from "../../src/search/flat-index.ts";
import { CodeIndex, documentsIn } from "./code-index.ts";
import { type Filter, matches } from "./filter.ts";
import type {
  DocumentQuery,
  EmbeddedDocument,
  FoundDocument,
  Mutation,
  Page,
  StoredDocument,
  VectorSpace,
} from "./store.ts";

/** A value to bind; not every runtime takes an `ArrayBuffer`. */
export type SqlValue = string | number | null | Uint8Array;
type Blob = ArrayBuffer | Uint8Array;

/** The SQLite that a runtime has. */
export interface Sql {
  /** Rows of a statement, each read when it is asked for; T has the types of their columns. */
  rows<T>(query: string, ...values: SqlValue[]): Iterable<T>;
  /** Runs work that is written as a whole, or not at all if it throws. */
  transaction(work: () => void): void;
}

/** Columns of a document. */
interface Columns {
  readonly row: number;
  readonly id: string;
  readonly space: string;
  readonly metadata: string | null;
  readonly vector: Blob;
  readonly text: string;
}
type Column = keyof Columns;
const FIELDS = ["id", "space", "metadata", "text"] as const;
type Fields = Pick<Columns, (typeof FIELDS)[number]>;

// Long columns come last: SQLite reads a row up to the column that is asked for.
const SCHEMA = [
  `CREATE TABLE IF NOT EXISTS documents (
     row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, space TEXT NOT NULL, metadata TEXT,
     vector BLOB NOT NULL, text TEXT NOT NULL)`,
  // Apart from the documents, so that the index is made without reading them.
  `CREATE TABLE IF NOT EXISTS codes (row INTEGER PRIMARY KEY, space TEXT NOT NULL, code BLOB NOT NULL)`,
];
/** Candidates for each result, and for a search at least. */
const RESCORE_FACTOR = 4;
const RESCORE_LEAST = 64;
/** Most characters of a page. */
const PAGE_CHARACTERS = 1_000_000;

export class SqlDocuments {
  readonly #sql: Sql;
  readonly #kernels: WebAssembly.Module;
  readonly #indexBytes: number;
  #index: CodeIndex | undefined;

  /** `indexBytes` bounds the memory of the index, and so the number of documents. `kernels` is the edge binary (or portable). */
  constructor(sql: Sql, kernels: WebAssembly.Module, indexBytes: number) {
    this.#sql = sql;
    this.#kernels = kernels;
    this.#indexBytes = indexBytes;
    for (const table of SCHEMA) this.#run(table);
  }

  put(space: VectorSpace, documents: readonly EmbeddedDocument[]): Mutation {
    const index = this.#open(space);
    const ids = documents.map(({ id }) => id);
    const known = new Map<string, number>();
    for (const { id, row } of this.#select(["id", "row"], "id", ids)) known.set(id, row);
    if (documents.length - known.size > index.free) return { full: index.most };
    try {
      this.#sql.transaction(() => {
        for (const { id, text, metadata, vector } of documents) {
          const row = known.get(id) ?? index.take();
          const code = index.write(row, vector);
          this.#run("INSERT OR REPLACE INTO codes VALUES (?, ?, ?)", row, space.name, code);
          this.#run(
            "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?, ?)",
            row,
            id,
            space.name,
            metadata ? JSON.stringify(metadata) : null,
            new Uint8Array(vector.slice().buffer),
            text,
          );
        }
      });
    } catch (error) {
      this.#index = undefined; // it is ahead of what is written
      throw error;
    }
    return {};
  }

  remove(ids: readonly string[]): Mutation {
    const rows = Array.from(this.#select(["row"], "id", ids), ({ row }) => row);
    const list = JSON.stringify(rows);
    this.#sql.transaction(() => {
      for (const table of ["documents", "codes"]) {
        this.#run(`DELETE FROM ${table} WHERE row IN (SELECT value FROM json_each(?))`, list);
      }
    });
    this.#index?.release(rows);
    return {};
  }

  get(space: VectorSpace, id: string): StoredDocument | undefined {
    const [row] = this.#select(FIELDS, "id", [id]);
    return row && documentOf(space, row);
  }

  /** The order is that of the bytes of UTF-8. */
  list(space: VectorSpace, after: string, limit: number): Page {
    const query = `SELECT ${FIELDS.join()} FROM documents WHERE id > ? ORDER BY id LIMIT ?`;
    const documents: StoredDocument[] = [];
    let characters = 0;
    for (const row of this.#sql.rows<Fields>(query, after, limit + 1)) {
      characters += row.text.length + (row.metadata?.length ?? 0);
      const full = documents.length === limit || characters > PAGE_CHARACTERS;
      if (full && documents.length > 0) return { documents, more: true };
      documents.push(documentOf(space, row));
    }
    return { documents, more: false };
  }

  search(space: VectorSpace, vector: Float32Array, query: DocumentQuery): FoundDocument[] {
    const { topK, threshold, filter } = query;
    const wanted = Math.max(RESCORE_FACTOR * topK, RESCORE_LEAST);
    let candidates: number[] = [];
    const index = this.#open(space);
    for (const rows of index.ranked(vector, wanted)) {
      candidates = candidates.concat(filter ? this.#passing(filter, rows) : rows);
      // Filtered, the first rows may not be enough.
      if (candidates.length >= wanted) break;
    }
    const best = this.#rescore(index, vector, candidates.slice(0, wanted))
      .filter(({ score }) => score >= threshold)
      .slice(0, topK);
    const rows = best.map(({ row }) => row);
    const documents = new Map<number, StoredDocument>();
    for (const fields of this.#select(["row", ...FIELDS], "row", rows)) {
      documents.set(fields.row, documentOf(space, fields));
    }
    return best.map(({ row, score }) => ({ ...documents.get(row)!, score }));
  }

  /** Those of some rows whose metadata passes, in their order. */
  #passing(filter: Filter, rows: readonly number[]): number[] {
    const passing = new Set<number>();
    for (const { row, metadata } of this.#select(["row", "metadata"], "row", rows)) {
      if (matches(filter, parsed(metadata))) passing.add(row);
    }
    return rows.filter((row) => passing.has(row));
  }

  /** Rows by the inner product of their float32 vectors with a query [dimension], best first, then by id. */
  #rescore(
    index: CodeIndex,
    query: Float32Array,
    rows: readonly number[],
  ): { readonly row: number; readonly score: number }[] {
    const candidates = [...this.#select(["row", "id", "vector"], "row", rows)];
    const vectors = candidates.map(({ vector }) => new Float32Array(bytesOf(vector).buffer));
    const scores = index.scores(query, vectors);
    return candidates
      .map(({ row, id }, i) => ({ row, id, score: scores[i]! }))
      .toSorted((a, b) => b.score - a.score || (a.id < b.id ? -1 : 1));
  }

  /** Columns of the documents whose `key` is one of a list. One parameter carries it: a statement may have few. */
  #select<C extends Column>(
    columns: readonly C[],
    key: "id" | "row",
    list: readonly (string | number)[],
  ): Iterable<Pick<Columns, C>> {
    const query = `SELECT ${columns.join()} FROM documents WHERE ${key} IN (SELECT value FROM json_each(?))`;
    return this.#sql.rows(query, JSON.stringify(list));
  }

  #run(query: string, ...values: SqlValue[]): void {
    for (const _ of this.#sql.rows(query, ...values));
  }

  /** The index of a space, made of what SQLite has unless it is there. */
  #open(space: VectorSpace): CodeIndex {
    if (this.#index?.space.name === space.name) return this.#index;
    this.#index = undefined; // there is no memory for two
    const index = new CodeIndex(this.#kernels, space, documentsIn(this.#indexBytes, space));
    const codes = this.#sql.rows<Pick<Columns, "row" | "space"> & { readonly code: Blob }>(
      "SELECT row, space, code FROM codes ORDER BY row",
    );
    for (const { row, space: name, code } of codes) {
      index.restore(row, name === space.name ? bytesOf(code) : undefined);
    }
    return (this.#index = index);
  }
}

function documentOf({ name }: VectorSpace, { id, text, metadata, space }: Fields): StoredDocument {
  return {
    id,
    text,
    ...(metadata !== null && { metadata: parsed(metadata)! }),
    ...(space !== name && { stale: true }),
  };
}

function parsed(metadata: string | null): Metadata | undefined {
  return metadata === null ? undefined : (JSON.parse(metadata) as Metadata);
}

/** A blob, in a buffer of its own: runtimes do not agree on its type. */
function bytesOf(blob: Blob): Uint8Array<ArrayBuffer> {
  return new Uint8Array(blob);
}

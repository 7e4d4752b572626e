/** Documents of a Worker, in the SQLite of a Durable Object. All requests of all places go to the one object. */
import { DurableObject } from "cloudflare:workers";
import kernels from "../../build/edge.wasm";
import { settingsOf } from "../settings.ts";
import { SqlDocuments, type SqlValue } from "./sqlite.ts";
import type { DocumentQuery, EmbeddedDocument, VectorSpace } from "./store.ts";

/** The parts of a Durable Object's state that are used here. */
export interface ObjectState {
  readonly storage: {
    readonly sql: { exec(query: string, ...values: SqlValue[]): Iterable<unknown> };
    transactionSync(work: () => void): void;
  };
}

/** The object; an answer leaves it only once what it wrote is on the disk. A Worker's entry has to export it. */
export class Documents extends DurableObject {
  readonly #documents: SqlDocuments;

  constructor(state: ObjectState, env: Readonly<Record<string, unknown>>) {
    super(state, env);
    const { storage } = state;
    this.#documents = new SqlDocuments(
      {
        rows: <T>(query: string, ...values: SqlValue[]) =>
          storage.sql.exec(query, ...values) as Iterable<T>,
        transaction: (work) => storage.transactionSync(work),
      },
      kernels,
      settingsOf(env).limits.indexBytes,
    );
  }

  put(space: VectorSpace, documents: readonly EmbeddedDocument[]): ReturnType<SqlDocuments["put"]> {
    return this.#documents.put(space, documents);
  }
  get(space: VectorSpace, id: string): ReturnType<SqlDocuments["get"]> {
    return this.#documents.get(space, id);
  }
  list(space: VectorSpace, after: string, limit: number): ReturnType<SqlDocuments["list"]> {
    return this.#documents.list(space, after, limit);
  }
  remove(ids: readonly string[]): ReturnType<SqlDocuments["remove"]> {
    return this.#documents.remove(ids);
  }
  search(
    space: VectorSpace,
    vector: Float32Array,
    query: DocumentQuery,
  ): ReturnType<SqlDocuments["search"]> {
    return this.#documents.search(space, vector, query);
  }
}

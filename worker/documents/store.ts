/**
 * What keeps documents. There are two: SQLite (`sqlite.ts`), in Node and in a Durable Object, and Vectorize (`vectorize.ts`).
 * They take the same filters and have the same limits, so that one can be exchanged for the other.
 */
import type { Metadata } from "../../src/search/flat-index.ts";
import type { Filter } from "./filter.ts";

/** A text under an id of the client's. */
export interface Document {
  readonly id: string;
  readonly text: string;
  readonly metadata?: Metadata | undefined;
}
/** A document with its unit vector [dimension]. */
export interface EmbeddedDocument extends Document {
  readonly vector: Float32Array;
}
/** A document that is kept; `stale` if another model embedded it, so that a search cannot find it. */
export interface StoredDocument extends Document {
  readonly stale?: true;
}
export interface FoundDocument extends Document {
  /** Cosine with the query. */
  readonly score: number;
}
export interface DocumentQuery {
  readonly topK: number;
  /** Least score. */
  readonly threshold: number;
  readonly filter?: Filter | undefined;
}

/** What vectors must share to be compared: the model, by a short name, and their length. */
export interface VectorSpace {
  readonly name: string;
  readonly dimension: number;
}

/** What a change came to. Unless it has a name, it is written and visible. */
export interface Mutation {
  /** Names a change that is still to come. */
  readonly mutationId?: string;
  /** Nothing was written: this is the most documents that the store holds. */
  readonly full?: number;
}

/** At most as many documents as asked for, fewer where their texts are long. */
export interface Page {
  readonly documents: readonly StoredDocument[];
  /** Whether there are others behind them. */
  readonly more: boolean;
}

export interface DocumentStore {
  /** Largest `topK`, where there is one. */
  readonly mostResults?: number;
  /** Writes documents of different ids, all or none; one that has the id of a document replaces it. */
  put(space: VectorSpace, documents: readonly EmbeddedDocument[]): Promise<Mutation>;
  get(space: VectorSpace, id: string): Promise<StoredDocument | undefined>;
  /** Documents in the order of their ids, from the one behind `after` on. Absent where a store has no order. */
  list?(space: VectorSpace, after: string, limit: number): Promise<Page>;
  /** Removes documents; ids that are not there are nothing to remove. */
  remove(ids: readonly string[]): Promise<Mutation>;
  /** The nearest documents to a unit vector [dimension], best first. */
  search(
    space: VectorSpace,
    vector: Float32Array,
    query: DocumentQuery,
  ): Promise<readonly FoundDocument[]>;
}

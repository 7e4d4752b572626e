/**
 * Documents in Cloudflare's Vectorize, for more of them than a Durable Object's memory holds. A vector's metadata is that of the
 * document, and its text; its namespace is the space, so that a search finds vectors of one model only. What is written is seen
 * some seconds later: https://developers.cloudflare.com/vectorize/platform/limits/ and …/best-practices/insert-vectors/
 */
import type { Metadata } from "../../src/search/flat-index.ts";
import { ApiError } from "../errors.ts";
import { bytesOf, type Filter } from "./filter.ts";
import type { DocumentStore, EmbeddedDocument, StoredDocument, VectorSpace } from "./store.ts";

interface StoredVector {
  readonly id: string;
  readonly namespace?: string;
  readonly metadata?: Metadata;
}
/** The parts of the binding that are used here. */
export interface VectorizeIndex {
  upsert(
    vectors: readonly (StoredVector & { readonly values: readonly number[] })[],
  ): Promise<{ readonly mutationId: string }>;
  deleteByIds(ids: readonly string[]): Promise<{ readonly mutationId: string }>;
  getByIds(ids: readonly string[]): Promise<readonly StoredVector[]>;
  query(
    vector: readonly number[],
    options: {
      readonly topK: number;
      readonly namespace: string;
      readonly returnValues: boolean;
      readonly returnMetadata: "all";
      readonly filter?: Filter;
    },
  ): Promise<{ readonly matches: readonly (StoredVector & { readonly score: number })[] }>;
}

/** Most results with metadata. */
const MOST_RESULTS = 20;
/** Most metadata of a vector, in bytes of JSON, the text among it. */
const METADATA_BYTES = 10_240;
/** Most ids that are deleted in one call. */
const DELETED = 100;

export function vectorizeDocuments(index: VectorizeIndex): DocumentStore {
  return {
    mostResults: MOST_RESULTS,
    // A request has at most the 1000 documents that an upsert takes.
    put: (space, documents) => {
      const vectors = documents.map((document, i) => vectorOf(space, document, i));
      return numbered(index.upsert(vectors));
    },
    get: async (space, id) => {
      const [vector] = await numbered(index.getByIds([id]));
      return vector && documentOf(space, vector);
    },
    remove: async (ids) => {
      let last = {};
      for (let begin = 0; begin < ids.length; begin += DELETED) {
        last = await numbered(index.deleteByIds(ids.slice(begin, begin + DELETED)));
      }
      return last;
    },
    search: async (space, vector, { topK, threshold, filter }) => {
      const { matches } = await numbered(
        index.query(Array.from(vector), {
          topK,
          namespace: space.name,
          returnValues: true, // asks for scores of the vectors themselves, not of their short form
          returnMetadata: "all",
          ...(filter && { filter }),
        }),
      );
      return matches
        .filter(({ score }) => score >= threshold)
        .map((match) => ({ ...documentOf(space, match), score: match.score }));
    },
  };
}

function vectorOf(
  { name }: VectorSpace,
  { id, text, metadata, vector }: EmbeddedDocument,
  i: number,
): Parameters<VectorizeIndex["upsert"]>[0][number] {
  const all = { ...metadata, text };
  const bytes = bytesOf(JSON.stringify(all));
  if (bytes > METADATA_BYTES) {
    const param = `documents[${i}]`;
    const message = `text and metadata are ${bytes} bytes of JSON, and Vectorize keeps ${METADATA_BYTES}`;
    throw new ApiError(400, `${param}: ${message}`, { param });
  }
  return { id, namespace: name, values: Array.from(vector), metadata: all };
}

function documentOf(
  { name }: VectorSpace,
  { id, namespace, metadata }: StoredVector,
): StoredDocument {
  const { text, ...rest } = metadata ?? {};
  return {
    id,
    text: String(text),
    ...(Object.keys(rest).length > 0 && { metadata: rest }),
    ...(namespace !== name && { stale: true }),
  };
}

/** An answer of Vectorize, or its error by number: its message may quote a document. */
async function numbered<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    const [, code = "unknown"] = /code = (\d+)/.exec(String(error)) ?? [];
    throw new ApiError(502, `Vectorize answered with its error ${code}`, { code: "store_error" });
  }
}

import type { EncodeOptions, SentenceModel } from "../simcse.ts";
import type {
  Duplicate,
  FlatIndex,
  Item,
  ItemId,
  NewItem,
  SearchOptions,
  SearchResult,
} from "./flat-index.ts";

/** How texts are encoded for an index. */
export type AddOptions = Pick<
  EncodeOptions,
  "batchSize" | "maxLength" | "prompt" | "promptName" | "signal" | "onProgress"
>;

/** How queries are encoded, and what is looked for. */
export type QueryOptions = SearchOptions &
  Pick<EncodeOptions, "maxLength" | "prompt" | "promptName" | "signal">;

/** A text and one that should be near it. */
export interface PositivePair {
  readonly anchor: string;
  readonly positive: string;
}

export interface MineOptions {
  /** Negatives of a pair. Default 1. */
  readonly negatives?: number;
  /** Skips so many of the nearest that qualify: they may be positives that nobody marked. Default 0. */
  readonly skip?: number;
  /** A negative is this much farther from the anchor than the positive is. Default 0.05. */
  readonly margin?: number;
  /** Largest score of a negative. Default: any. */
  readonly maxScore?: number;
}

/** A pair with the nearest texts that are no answers to it: there may be fewer than asked for. */
export interface MinedPair extends PositivePair {
  readonly negatives: readonly string[];
}

/**
 * A model and an index over its vectors: texts in, texts out. `index` is the index itself.
 *
 *     const index = await model.buildIndex(["a cat sleeps", "a stock falls"]);
 *     await index.add([{ id: "c", text: "a dog runs", metadata: { page: 3 } }]);
 *     await index.search("a kitten", { topK: 2, threshold: 0.6, filter: ({ metadata }) => metadata?.page === 3 });
 */
export class TextIndex {
  readonly index: FlatIndex;
  readonly #model: SentenceModel;

  /** @throws RangeError for an index of larger vectors than the model's */
  constructor(model: SentenceModel, index: FlatIndex) {
    if (index.dimension > model.dimension) {
      throw new RangeError(
        `an index of ${index.dimension} dimensions does not belong to a model of ${model.dimension}; build it again`,
      );
    }
    this.#model = model;
    this.index = index;
  }

  /** Items in the index. */
  get size(): number {
    return this.index.size;
  }

  /** All items, in the order of the index. */
  get items(): readonly Item[] {
    return this.index.items;
  }

  /**
   * Encodes and adds texts, all of them or none.
   * @returns their ids
   * @throws RangeError for an id that is taken
   */
  async add(texts: readonly NewItem[], options: AddOptions = {}): Promise<ItemId[]> {
    const strings = texts.map((text) => (typeof text === "string" ? text : text.text));
    return this.index.add(texts, await this.#encode(strings, options));
  }

  /**
   * Removes items.
   * @returns how many there were
   */
  remove(ids: Iterable<ItemId>): number {
    return this.index.remove(ids);
  }

  /** The items nearest to a text, best first, or of each of several texts. */
  search(query: string, options?: QueryOptions): Promise<SearchResult[]>;
  search(queries: readonly string[], options?: QueryOptions): Promise<SearchResult[][]>;
  async search(
    query: string | readonly string[],
    options: QueryOptions = {},
  ): Promise<SearchResult[] | SearchResult[][]> {
    const queries = typeof query === "string" ? [query] : query;
    const vectors = await this.#encode(queries, options);
    const results = vectors.map((vector) => this.index.search(vector, options));
    return typeof query === "string" ? results[0]! : results;
  }

  /**
   * Hard negatives for supervised training: of the texts of the index, those nearest to each anchor that are neither the
   * anchor nor one of its positives, and farther from it than the positive by `margin`.
   *
   *     await index.mine([{ anchor: "how to delete a file", positive: "removes a file" }], { negatives: 2 });
   */
  async mine(
    pairs: readonly PositivePair[],
    { negatives = 1, skip = 0, margin = 0.05, maxScore = Infinity }: MineOptions = {},
  ): Promise<MinedPair[]> {
    const known = Map.groupBy(pairs, ({ anchor }) => anchor);
    const anchors = pairs.map(({ anchor }) => anchor);
    const vectors = await this.#encode(anchors);
    const scores = await this.#model.pairSimilarities(
      anchors,
      pairs.map(({ positive }) => positive),
    );
    return pairs.map(({ anchor, positive }, i) => {
      const excluded = new Set(known.get(anchor)!.map((pair) => pair.positive)).add(anchor);
      const nearest = this.index.search(vectors[i]!, {
        topK: skip + negatives,
        maxScore: Math.min(maxScore, scores[i]! - margin),
        filter: ({ text }) => !excluded.has(text),
      });
      return { anchor, positive, negatives: nearest.slice(skip).map(({ text }) => text) };
    });
  }

  /** Items that nearly repeat one before them: see `FlatIndex.dedupe`. */
  dedupe(options?: { readonly threshold?: number }): Duplicate[] {
    return this.index.dedupe(options);
  }

  /** Communities of near items: see `FlatIndex.cluster`. */
  cluster(options?: { readonly threshold?: number; readonly minSize?: number }): ItemId[][] {
    return this.index.cluster(options);
  }

  /** The index as one file with a checksum; `model.openIndex` reads it. */
  serialize(): Promise<Uint8Array<ArrayBuffer>> {
    return this.index.serialize();
  }

  #encode(texts: readonly string[], options: AddOptions = {}): Promise<Float32Array[]> {
    return this.#model.encode(texts, { ...options, dimensions: this.index.dimension });
  }
}

import { Arena } from "../runtime/arena.ts";
import { instantiate } from "../runtime/instantiate.ts";
import type { InferenceKernels } from "../runtime/kernels.ts";

export interface SearchResult {
  /** Position of the text in the index. */
  readonly id: number;
  readonly text: string;
  /** Cosine similarity to the query. */
  readonly score: number;
}

/** Exact search over unit vectors: every query is compared with every row. */
export class FlatIndex {
  readonly texts: readonly string[];
  readonly #kernels: InferenceKernels;
  readonly #query: Float32Array;
  readonly #scores: Float32Array;
  readonly #compare: () => void;

  /** `vectors` [texts, dimension] lie on the unit sphere, end to end. */
  constructor(
    module: WebAssembly.Module,
    texts: readonly string[],
    vectors: Float32Array,
    dimension: number,
  ) {
    if (vectors.length !== texts.length * dimension) {
      throw new RangeError(
        `index: expected ${texts.length} vectors of ${dimension}, found ${vectors.length} numbers`,
      );
    }
    this.texts = texts;
    const arena = new Arena();
    const rows = arena.tensor("vectors", texts.length, dimension);
    const query = arena.tensor("query", dimension);
    const scores = arena.tensor("scores", texts.length);
    const memory = new WebAssembly.Memory({ initial: arena.pages, maximum: arena.pages });
    const kernels = instantiate<InferenceKernels>(module, memory);
    kernels.join(0, 1);
    new Float32Array(memory.buffer, rows.ptr, vectors.length).set(vectors);
    this.#kernels = kernels;
    this.#query = new Float32Array(memory.buffer, query.ptr, dimension);
    this.#scores = new Float32Array(memory.buffer, scores.ptr, texts.length);
    this.#compare = () =>
      this.#kernels.innerProducts(scores.ptr, rows.ptr, query.ptr, texts.length, dimension);
  }

  /** The `topK` nearest texts whose score is at least `threshold`, best first; ties in the order of the index. */
  search(
    query: Float32Array,
    { topK = 5, threshold = -1 }: { topK?: number; threshold?: number } = {},
  ): SearchResult[] {
    if (query.length !== this.#query.length) {
      throw new RangeError(
        `query: expected a vector of ${this.#query.length}, found ${query.length}`,
      );
    }
    this.#query.set(query);
    this.#compare();
    const scores = this.#scores;
    const best: number[] = [];
    for (let i = 0; i < scores.length; i++) {
      if (scores[i]! < threshold || (best.length === topK && scores[i]! <= scores[best.at(-1)!]!))
        continue;
      let place = best.length;
      while (place > 0 && scores[best[place - 1]!]! < scores[i]!) place--;
      best.splice(place, 0, i);
      if (best.length > topK) best.pop();
    }
    return best.map((id) => ({ id, text: this.texts[id]!, score: scores[id]! }));
  }
}

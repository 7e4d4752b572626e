import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { permutation, RandomStream, STREAM } from "./random.ts";

/** Sentences as token ids, end to end: millions of them cost four bytes a token. */
export interface TokenizedCorpus {
  readonly tokens: Int32Array<ArrayBuffer>;
  /** [sentences + 1]: where each sentence begins in `tokens`. */
  readonly offsets: Uint32Array;
  /** [sentences]: equal for sentences with equal tokens, which must not be each other's negatives. */
  readonly ids: Int32Array;
  /** Sentences that were cut to the maximum length. */
  readonly truncated: number;
  /** Sentences whose tokens another one has too. */
  readonly duplicates: number;
}

/** Tokenizes a corpus of at least one sentence. */
export function tokenizeCorpus(
  sentences: readonly string[],
  tokenizer: Tokenizer,
  maxLength: number,
): TokenizedCorpus {
  const offsets = new Uint32Array(sentences.length + 1);
  const ids = new Int32Array(sentences.length);
  const seen = new Map<string, number>();
  let tokens = new Int32Array(sentences.length * 16);
  let count = 0;
  let truncated = 0;
  sentences.forEach((sentence, s) => {
    const encoding = tokenizer.encode(sentence, maxLength);
    if (encoding.truncated) truncated++;
    if (count + encoding.ids.length > tokens.length) {
      const larger = new Int32Array(2 * tokens.length + encoding.ids.length);
      larger.set(tokens);
      tokens = larger;
    }
    tokens.set(encoding.ids, count);
    count += encoding.ids.length;
    offsets[s + 1] = count;
    const key = encoding.ids.join(" ");
    const id = seen.get(key) ?? seen.size;
    seen.set(key, id);
    ids[s] = id;
  });
  return {
    tokens: tokens.slice(0, count),
    offsets,
    ids,
    truncated,
    duplicates: sentences.length - seen.size,
  };
}

/** Batches of an epoch: whole ones only, unless the corpus is smaller than one. */
export function stepsPerEpoch(corpus: TokenizedCorpus, batchSize: number): number {
  return Math.max(1, Math.floor(corpus.ids.length / batchSize));
}

/** Which sentences a step trains on, as a pure function of (seed, step): epochs are permutations. */
export class BatchOrder {
  readonly #corpus: TokenizedCorpus;
  readonly #batchSize: number;
  readonly #seed: number;
  #epoch = -1;
  #order: Uint32Array = new Uint32Array(0);

  constructor(corpus: TokenizedCorpus, batchSize: number, seed: number) {
    this.#corpus = corpus;
    this.#batchSize = batchSize;
    this.#seed = seed;
  }

  /** Indices of the sentences of a step, counted from 1. */
  rows(step: number): Uint32Array {
    const perEpoch = stepsPerEpoch(this.#corpus, this.#batchSize);
    const epoch = Math.floor((step - 1) / perEpoch);
    if (epoch !== this.#epoch) {
      this.#order = permutation(
        this.#corpus.ids.length,
        new RandomStream(this.#seed, STREAM.order, epoch),
      );
      this.#epoch = epoch;
    }
    const first = ((step - 1) % perEpoch) * this.#batchSize;
    return this.#order.subarray(first, first + this.#batchSize);
  }

  /** The batch of a step for unsupervised SimCSE: every sentence twice, anchors first. */
  batch(step: number): { sequences: Int32Array[]; ids: Int32Array } {
    const rows = this.rows(step);
    const { tokens, offsets, ids } = this.#corpus;
    const once = Array.from(rows, (row) => tokens.subarray(offsets[row], offsets[row + 1]));
    const rowIds = Int32Array.from(rows, (row) => ids[row]!);
    const twice = new Int32Array(2 * rows.length);
    twice.set(rowIds);
    twice.set(rowIds, rows.length);
    return { sequences: [...once, ...once], ids: twice };
  }
}

import { FormatError } from "./errors.ts";
import type { Source } from "./files/source.ts";
import type { ModelConfig } from "./model/config.ts";
import { promptOf, type PromptOptions } from "./model/prompts.ts";
import { BATCH_TOKENS } from "./model/sentence-encoder.ts";
import {
  type Precision,
  quantizeEmbeddings,
  type Ranges,
  truncate,
  type VectorTypes,
} from "./quantize/embeddings.ts";
import { turn } from "./runtime/turn.ts";
import { FlatIndex, type NewItem } from "./search/flat-index.ts";
import type { IndexPrecision } from "./search/rows.ts";
import { type AddOptions, TextIndex } from "./search/text-index.ts";
import type { Tokenizer } from "./tokenizer/tokenizer.ts";

/** A text as token ids, its special tokens included. */
export type TokenIds = readonly number[] | Int32Array;
/** What has one vector. */
export type Text = string | TokenIds;

/** What computes vectors: a `SentenceEncoder` on this thread, or a pool of them on others. */
export interface Encoder {
  readonly config: ModelConfig;
  /** Size of a vector. */
  readonly dimension: number;
  /** Batches it works on at the same time; 1 unless told. */
  readonly ranks?: number;
  /** Vectors [texts][dimension], each of a text of 1 to `maxLength` tokens of the vocabulary. */
  encode(
    texts: readonly TokenIds[],
    options?: { readonly normalize?: boolean },
  ): Float32Array[] | Promise<Float32Array[]>;
  close?(): Promise<void>;
}

/** How a model folder is read, beyond what it says itself. */
export interface ModelOptions {
  /** How token vectors become a sentence vector, instead of as the folder says. */
  readonly pooling?: ModelConfig["pooling"];
  /** Longest text in tokens, specials included; longer ones are cut there. */
  readonly maxLength?: number;
}

export interface EncodeOptions<P extends Precision = "float32"> extends PromptOptions {
  /** Vectors on the unit sphere, so that inner products are cosines. Default true. */
  readonly normalize?: boolean;
  /** Most texts that a thread works on at a time. Default 64. */
  readonly batchSize?: number;
  /** Cuts texts at so many tokens, specials included, before the model's own maximum. */
  readonly maxLength?: number;
  /** Keeps this many of the first components, on the unit sphere again if `normalize`. */
  readonly dimensions?: number;
  /** Number format of the vectors. Default "float32". */
  readonly precision?: P;
  /** Ranges of the components, for int8 and uint8; without them those of the vectors at hand. */
  readonly ranges?: Ranges;
  /** Ends the call between batches. */
  readonly signal?: AbortSignal;
  /** Called after every batch. */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void;
}

export type TokenizeOptions = Pick<EncodeOptions, "maxLength" | "prompt" | "promptName">;

export interface StreamOptions<P extends Precision = "float32"> extends Omit<
  EncodeOptions<P>,
  "onProgress"
> {
  /** Texts that are read, sorted by length and encoded together. Default 1024. */
  readonly window?: number;
}

export interface BuildOptions extends AddOptions {
  /** Number format of the index. Default "float32". */
  readonly precision?: IndexPrecision;
  /** Keeps this many of the first components. */
  readonly dimensions?: number;
}

/**
 * A configuration with options of the caller in it.
 * @throws RangeError for a maximum that the model's positions do not allow
 */
export function configure(config: ModelConfig, { pooling, maxLength }: ModelOptions): ModelConfig {
  const { maxPositions } = config.encoder;
  if (
    maxLength !== undefined &&
    !(Number.isInteger(maxLength) && maxLength >= 2 && maxLength <= maxPositions)
  ) {
    throw new RangeError(
      `maxLength ${maxLength}: expected a whole number from 2 to the ${maxPositions} positions of the model`,
    );
  }
  return {
    ...config,
    ...(pooling !== undefined && { pooling }),
    ...(maxLength !== undefined && { maxLength }),
  };
}

/**
 * A model that gives texts their vectors. `SimCSE.load` makes one: of a folder and with threads in Node, of files in
 * memory elsewhere.
 *
 *     await using model = await SimCSE.load("models/my-model");
 *     const [cat, dog] = await model.encode(["A cat sleeps.", "A dog sleeps."]);
 *     await model.similarity("A cat sleeps.", "A dog sleeps."); // a cosine
 *
 * The vector of a text depends on nothing but the text, bit for bit: not on its batch, nor on the number of threads.
 */
export class SentenceModel {
  readonly tokenizer: Tokenizer;
  readonly #encoder: Encoder;
  readonly #kernels: WebAssembly.Module;
  /** What similarities are computed in: one memory for all calls. */
  #compared: FlatIndex | undefined;

  /**
   * `kernels` is the edge binary (or portable), for similarities and search.
   * @throws FormatError for a tokenizer with ids that the model has no vectors for
   */
  constructor(encoder: Encoder, tokenizer: Tokenizer, kernels: WebAssembly.Module) {
    const { vocabSize } = encoder.config.encoder;
    if (tokenizer.vocabSize > vocabSize) {
      throw new FormatError(
        `tokenizer.json has ${tokenizer.vocabSize} pieces, but the model's table only ${vocabSize} rows; ` +
          `they do not belong together`,
      );
    }
    this.#encoder = encoder;
    this.tokenizer = tokenizer;
    this.#kernels = kernels;
  }

  get config(): ModelConfig {
    return this.#encoder.config;
  }

  /** Size of a vector. */
  get dimension(): number {
    return this.#encoder.dimension;
  }

  /**
   * Vectors of texts: a list gives as many rows, in its order, and a single text gives one. A text is a string, or its
   * token ids with special tokens, which are taken as they are. Texts past `maxLength` are cut; token ids past it are refused.
   *
   *     await model.encode([]); // []
   *     await model.encode("a cat"); // Float32Array [dimension]
   *     await model.encode(["a cat", "a dog"], { precision: "ubinary" }); // two Uint8Arrays [dimension / 8]
   *
   * @throws RangeError naming the option or the text that is out of bounds; the reason of `signal` once it is aborted
   */
  encode<P extends Precision = "float32">(
    texts: readonly Text[],
    options?: EncodeOptions<P>,
  ): Promise<VectorTypes[P][]>;
  encode<P extends Precision = "float32">(
    text: Text,
    options?: EncodeOptions<P>,
  ): Promise<VectorTypes[P]>;
  async encode<P extends Precision = "float32">(
    input: Text | readonly Text[],
    options: EncodeOptions<P> = {},
  ): Promise<VectorTypes[P] | VectorTypes[P][]> {
    const single = isText(input);
    const vectors = await this.#vectors(single ? [input] : input, options);
    const { precision = "float32" as P, ranges } = options;
    const rows = quantizeEmbeddings(vectors, precision, ranges);
    return single ? rows[0]! : rows;
  }

  /**
   * Vectors of texts that come one by one and may be more than memory holds: a list of rows for each window of texts, in
   * their order.
   *
   *     for await (const rows of model.encodeStream(lines)) write(rows);
   *
   * @throws RangeError as `encode` does, and for int8 or uint8 without ranges, which would differ from window to window
   */
  async *encodeStream<P extends Precision = "float32">(
    texts: AsyncIterable<Text> | Iterable<Text>,
    { window = 1024, ...options }: StreamOptions<P> = {},
  ): AsyncGenerator<VectorTypes[P][]> {
    expectWhole("window", window);
    const { precision, ranges } = options;
    if ((precision === "int8" || precision === "uint8") && !ranges) {
      throw new RangeError(
        `precision "${precision}" of a stream needs ranges: pass those that calibrate() makes of a sample`,
      );
    }
    let waiting: Text[] = [];
    for await (const text of texts) {
      waiting.push(text);
      if (waiting.length < window) continue;
      yield await this.encode<P>(waiting, options);
      waiting = [];
    }
    if (waiting.length > 0) yield await this.encode<P>(waiting, options);
  }

  /**
   * Token ids of a text as `encode` takes them: with prompt and special tokens, cut at the maximal length.
   *
   *     model.tokenize("a cat").length; // what the text costs, in tokens
   *
   * @throws RangeError for a prompt that the model does not have
   */
  tokenize(text: string, options: TokenizeOptions = {}): Int32Array {
    const { maxLength = this.config.maxLength } = options;
    return this.tokenizer.encode(promptOf(this.config, options) + text, maxLength).ids;
  }

  /**
   * Cosines of texts: of two texts a number, of a text and a list [n] a vector [n], of lists [m] and [n] m vectors [n],
   * and of a list and a text m vectors [1].
   *
   *     await model.similarity("a cat", ["a kitten", "a car"]); // Float32Array(2)
   */
  similarity(a: string, b: string): Promise<number>;
  similarity(a: string, b: readonly string[]): Promise<Float32Array>;
  similarity(a: readonly string[], b: string | readonly string[]): Promise<Float32Array[]>;
  async similarity(
    a: string | readonly string[],
    b: string | readonly string[],
  ): Promise<number | Float32Array | Float32Array[]> {
    const left = typeof a === "string" ? [a] : a;
    const right = typeof b === "string" ? [b] : b;
    const vectors = await this.encode([...left, ...right]);
    const index = this.#compare(right, vectors.slice(left.length));
    const rows = vectors.slice(0, left.length).map((vector) => index.scores(vector));
    if (typeof a !== "string") return rows;
    return typeof b === "string" ? rows[0]![0]! : rows[0]!;
  }

  /**
   * Cosines [n] of the first of `a` with the first of `b`, of the second with the second, and so on.
   * @throws RangeError for lists of different lengths
   */
  async pairSimilarities(a: readonly string[], b: readonly string[]): Promise<Float32Array> {
    if (a.length !== b.length) {
      throw new RangeError(`expected lists of one length, found ${a.length} and ${b.length} texts`);
    }
    const vectors = await this.encode([...a, ...b]);
    const index = this.#compare(b, vectors.slice(a.length));
    return Float32Array.from(a, (_, i) => index.score(vectors[i]!, i));
  }

  /** Cosines [n] of a unit vector [dimension] with unit vectors [n][dimension]. */
  cosines(vector: Float32Array, vectors: readonly Float32Array[]): Float32Array {
    return this.#compare(
      vectors.map(() => ""),
      vectors,
    ).scores(vector);
  }

  /**
   * An index over texts.
   *
   *     const index = await model.buildIndex(["a cat sleeps", "a stock falls"]);
   *     await index.search("a kitten", { topK: 1 }); // [{ id: 0, text: "a cat sleeps", score }]
   */
  async buildIndex(
    texts: readonly NewItem[],
    { precision, dimensions = this.dimension, ...options }: BuildOptions = {},
  ): Promise<TextIndex> {
    const index = new TextIndex(this, new FlatIndex(this.#kernels, dimensions, precision));
    await index.add(texts, options);
    return index;
  }

  /**
   * An index that `serialize` wrote, over texts of this model: its bytes, or a source that is read part by part. `file` names
   * it in errors.
   * @throws FormatError for bytes that are damaged, or none; RangeError for vectors larger than this model's
   */
  async openIndex(bytes: Uint8Array | Source, file = "index"): Promise<TextIndex> {
    return new TextIndex(this, await FlatIndex.parse(this.#kernels, bytes, file));
  }

  /** Ends the threads, if there are any; calls that are not done reject. */
  async close(): Promise<void> {
    await this.#encoder.close?.();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** An index of nothing but these, under the ids 0, 1, … */
  #compare(texts: readonly string[], vectors: readonly Float32Array[]): FlatIndex {
    const index = (this.#compared ??= new FlatIndex(this.#kernels, this.dimension));
    index.remove(index.items.map(({ id }) => id));
    index.add(
      texts.map((text, id) => ({ id, text })),
      vectors,
    );
    return index;
  }

  /** Float vectors: batches of neighbours in length, as many at a time as there are ranks. */
  async #vectors(
    texts: readonly Text[],
    options: Omit<EncodeOptions<Precision>, "precision" | "ranges">,
  ): Promise<Float32Array[]> {
    const { normalize = true, batchSize = 64, signal, onProgress } = options;
    const { maxLength = this.config.maxLength, dimensions = this.dimension } = options;
    expectWhole("batchSize", batchSize);
    expectWhole("dimensions", dimensions, this.dimension);
    expectWhole("maxLength", maxLength, this.config.maxLength);
    const { ranks = 1 } = this.#encoder;
    const vectors = Array.from<Float32Array>({ length: texts.length });
    const batches = batchesOf(texts, batchSize, ranks);
    let done = 0;
    const work = async (): Promise<void> => {
      for (let batch = batches.pop(); batch; batch = batches.pop()) {
        signal?.throwIfAborted();
        const ids = batch.map((i) => {
          const text = texts[i]!;
          if (typeof text === "string") return this.tokenize(text, options);
          return this.#checked(text, i, maxLength);
        });
        const result = this.#encoder.encode(ids, { normalize });
        const rows = await result;
        batch.forEach((i, row) => (vectors[i] = truncate(rows[row]!, dimensions, { normalize })));
        done += batch.length;
        onProgress?.({ done, total: texts.length });
        // An encoder on this thread keeps it busy: between batches clicks are answered, and signals heard.
        if (result === rows && batches.length > 0) await turn();
      }
    };
    try {
      await Promise.all(Array.from({ length: ranks }, work));
    } finally {
      batches.length = 0; // an error ends the other workers too
    }
    return vectors;
  }

  /** Token ids of the caller, number `i` of his texts: prompts are his as well. */
  #checked(text: TokenIds, i: number, maxLength: number): TokenIds {
    if (text.length < 1 || text.length > maxLength) {
      throw new RangeError(
        `text ${i}: expected 1 to ${maxLength} token ids, found ${text.length}; cut it, special tokens included`,
      );
    }
    const { vocabSize } = this.config.encoder;
    const alien = text.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
    if (alien === undefined) return text;
    throw new RangeError(`text ${i}: token id ${alien} is outside the vocabulary of ${vocabSize}`);
  }
}

function isText(input: Text | readonly Text[]): input is Text {
  return typeof input === "string" || !Array.isArray(input) || typeof input[0] === "number";
}

/** Of English, about. */
const CHARACTERS_PER_TOKEN = 4;

/**
 * Positions of texts, neighbours in length together, in batches of about even work, none much longer than an encoder's own. The batch of the longest texts is the
 * last: taken first, it does not leave one thread busy when the others are done.
 */
function batchesOf(texts: readonly Text[], batchSize: number, ranks: number): number[][] {
  const workOf = (i: number): number => {
    const text = texts[i]!;
    return 1 + (typeof text === "string" ? text.length / CHARACTERS_PER_TOKEN : text.length);
  };
  const order = texts.map((_, i) => i).toSorted((i, j) => workOf(i) - workOf(j) || i - j);
  const share = order.reduce((sum, i) => sum + workOf(i), 0) / ranks;
  const batches: number[][] = [];
  let batch: number[] = [];
  let work = 0;
  for (const i of order) {
    batch.push(i);
    work += workOf(i);
    if (batch.length < batchSize && work < Math.min(share, BATCH_TOKENS)) continue;
    batches.push(batch);
    batch = [];
    work = 0;
  }
  if (batch.length > 0) batches.push(batch);
  return batches;
}

function expectWhole(option: string, value: number, most = Infinity): void {
  if (Number.isInteger(value) && value >= 1 && value <= most) return;
  const range = most === Infinity ? "from 1" : `from 1 to ${most}`;
  throw new RangeError(`${option} ${value}: expected a whole number ${range}`);
}

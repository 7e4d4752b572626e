import type { SafetensorsTensor } from "../files/safetensors.ts";
import { Arena, size } from "../runtime/arena.ts";
import { instantiate } from "../runtime/instantiate.ts";
import type { InferenceKernels } from "../runtime/kernels.ts";
import { type Batch, type BatchLimits, planBatch, writeBatch } from "./batch.ts";
import type { ModelConfig } from "./config.ts";
import {
  encode,
  type InferenceBuffers,
  type InferenceModel,
  planInference,
  planInferenceBuffers,
} from "./inference.ts";
import { loadWeights } from "./weights.ts";

/** Tokens of a batch: enough to keep the products busy, few enough for their activations to stay near the caches. */
const BATCH_TOKENS = 1024;

/**
 * Sentence vectors on one thread, in Node, a browser or a Worker: weights and kernels over a memory of exactly the size
 * they need. The vector of a text depends on nothing but the text, bit for bit: batches are ragged and sums are ordered.
 */
export class SentenceEncoder {
  readonly config: ModelConfig;
  /** Bytes of linear memory. */
  readonly bytes: number;
  readonly #kernels: InferenceKernels;
  readonly #memory: WebAssembly.Memory;
  readonly #limits: BatchLimits;
  readonly #model: InferenceModel;
  readonly #batch: Batch;
  readonly #buffers: InferenceBuffers;

  /** `module` is the edge binary (or portable); `file` names the weights in errors. */
  constructor(
    module: WebAssembly.Module,
    config: ModelConfig,
    tensors: ReadonlyMap<string, SafetensorsTensor>,
    file: string,
  ) {
    this.config = config;
    const tokens = Math.max(BATCH_TOKENS, config.maxLength);
    this.#limits = { tokens, sequences: BATCH_TOKENS / 2, maxLength: config.maxLength };
    const arena = new Arena();
    this.#model = planInference(arena, config);
    this.#batch = planBatch(arena, this.#limits);
    this.#buffers = planInferenceBuffers(arena, config, this.#limits, 1);
    this.#memory = new WebAssembly.Memory({ initial: arena.pages, maximum: arena.pages });
    this.bytes = this.#memory.buffer.byteLength;
    this.#kernels = instantiate<InferenceKernels>(module, this.#memory);
    this.#kernels.join(0, 1);
    loadWeights(this.#memory.buffer, this.#model.named, tensors, file);
  }

  /** Size of a vector. */
  get dimension(): number {
    return this.config.encoder.hiddenSize;
  }

  /**
   * Vectors [texts][dimension] of texts given as token ids, each with its special tokens and at most `maxLength` long.
   * @throws RangeError for a text that is empty or too long, or a token outside the vocabulary
   */
  encode(
    texts: readonly ArrayLike<number>[],
    { normalize = true }: { normalize?: boolean } = {},
  ): Float32Array[] {
    const vectors = Array.from<Float32Array>({ length: texts.length });
    // Neighbours in length share a batch, so that ranks and caches see even work; the order outside stays.
    const order = texts
      .map((_, i) => i)
      .toSorted((i, j) => texts[i]!.length - texts[j]!.length || i - j);
    let group: number[] = [];
    let tokens = 0;
    const flush = (): void => {
      if (group.length > 0) this.#encodeBatch(texts, group, normalize, vectors);
      group = [];
      tokens = 0;
    };
    for (const i of order) {
      const length = texts[i]!.length;
      if (tokens + length > this.#limits.tokens || group.length === this.#limits.sequences) flush();
      group.push(i);
      tokens += length;
    }
    flush();
    return vectors;
  }

  #encodeBatch(
    texts: readonly ArrayLike<number>[],
    group: readonly number[],
    normalize: boolean,
    vectors: Float32Array[],
  ): void {
    const buffer = this.#memory.buffer;
    const sequences = group.map((i) => texts[i]!);
    const tokens = writeBatch(
      buffer,
      this.#batch,
      this.#limits,
      this.config.encoder.vocabSize,
      sequences,
    );
    // prettier-ignore
    const y = encode(this.#kernels, this.config, this.#model, this.#buffers, this.#batch, { tokens, sequences: group.length }, this.#limits.maxLength, normalize);
    const rows = new Float32Array(buffer, y.ptr, size(y.shape));
    group.forEach((i, row) => {
      vectors[i] = rows.slice(row * this.dimension, (row + 1) * this.dimension);
    });
  }
}

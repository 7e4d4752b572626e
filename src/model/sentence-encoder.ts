import { Arena, size } from "../runtime/arena.ts";
import { instantiate } from "../runtime/instantiate.ts";
import type { InferenceKernels, Pointer } from "../runtime/inference-kernels.ts";
import { type Batch, type BatchLimits, planBatch, writeBatch } from "./batch.ts";
import { type ModelConfig, sizesOf } from "./config.ts";
import { encode, type InferenceBuffers, packWeights, planInferenceBuffers } from "./inference.ts";
import { type InferenceModel, planInference } from "./inference-weights.ts";

/** Tokens of a batch: enough to keep the products busy, few enough for their activations to stay near the caches. */
export const BATCH_TOKENS = 1024;
/** Numbers of a token up to which a batch has so many; of wider ones it has fewer, or BERT-base in int4 would not fit a Worker. */
const BATCH_WIDTH = 384;

/** The memory of encoders that share their weights. */
export interface EncoderPlan {
  readonly arena: Arena;
  readonly limits: BatchLimits;
  readonly model: InferenceModel;
  readonly ranks: readonly { readonly batch: Batch; readonly buffers: InferenceBuffers }[];
}

/** Where the encoders of a memory lie: the weights once, then a batch and buffers for each of them. */
export function planEncoders(config: ModelConfig, ranks: number): EncoderPlan {
  const share = Math.min(1, BATCH_WIDTH / config.encoder.hiddenSize);
  const tokens = Math.max(Math.floor(share * BATCH_TOKENS), config.maxLength);
  const limits = { tokens, sequences: BATCH_TOKENS / 2, maxLength: config.maxLength };
  const arena = new Arena();
  const model = planInference(arena, config);
  const plan = (): EncoderPlan["ranks"][number] => ({
    batch: planBatch(arena, limits),
    buffers: planInferenceBuffers(arena, config, limits, 1),
  });
  return { arena, limits, model, ranks: Array.from({ length: ranks }, plan) };
}

/** A memory of exactly the size of a plan. */
export function memoryOf({ arena }: EncoderPlan, shared: boolean): WebAssembly.Memory {
  const { pages } = arena;
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
}

/** Packs the weights of the layers and modules, once they are all there, by way of a place as large as a rank's scratch. */
export function packEncoders(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
  { model, ranks }: EncoderPlan,
  scratch: Pointer = ranks[0]!.buffers.scratch.ptr,
): void {
  const kernels = instantiate<InferenceKernels>(module, memory);
  kernels.join(0, 1);
  packWeights(kernels, memory.buffer, model, scratch);
}

/**
 * Sentence vectors on one thread, in Node, a browser or a Worker: kernels over a memory of exactly the size they need. The
 * vector of a text depends on nothing but the text, bit for bit: batches are ragged and sums are ordered.
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

  /**
   * The encoder number `rank` of the `ranks` that a memory was allocated for. Each works for itself, on a thread of its own.
   * `module` is the edge binary (or portable), or the node binary where the memory is shared.
   */
  constructor(
    module: WebAssembly.Module,
    config: ModelConfig,
    memory: WebAssembly.Memory,
    { rank = 0, ranks = 1 }: { rank?: number; ranks?: number } = {},
  ) {
    const plan = planEncoders(config, ranks);
    this.config = config;
    this.bytes = memory.buffer.byteLength;
    this.#memory = memory;
    this.#limits = plan.limits;
    this.#model = plan.model;
    this.#batch = plan.ranks[rank]!.batch;
    this.#buffers = plan.ranks[rank]!.buffers;
    this.#kernels = instantiate<InferenceKernels>(module, memory);
    this.#kernels.join(0, 1);
  }

  /** Size of a vector. */
  get dimension(): number {
    return sizesOf(this.config).vector;
  }

  /**
   * Vectors [texts][dimension] of texts given as token ids, each with its special tokens and at most `maxLength` long. To a
   * static model a text may have no tokens at all; its vector is zero.
   * @throws RangeError for a text that is empty or too long, or a token outside the vocabulary
   */
  encode(
    inputs: readonly ArrayLike<number>[],
    { normalize = true }: { normalize?: boolean } = {},
  ): Float32Array[] {
    const { table } = this.config;
    const texts = table
      ? inputs.map((ids) => Array.from(ids).filter((id) => id !== table.ignoredId))
      : inputs;
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
      if (length === 0 && table) {
        vectors[i] = new Float32Array(this.dimension);
        continue;
      }
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

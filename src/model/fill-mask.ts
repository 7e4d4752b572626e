import type { SafetensorsTensor } from "../files/safetensors.ts";
import { Arena, type Tensor } from "../runtime/arena.ts";
import { instantiate } from "../runtime/instantiate.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { type Batch, type BatchLimits, planBatch, writeBatch } from "./batch.ts";
import type { EncoderConfig } from "./config.ts";
import { type Activations, encoderForward, planActivations } from "./encoder.ts";
import {
  MASKED_AT_ONCE,
  type MlmHeadActivations,
  mlmHeadForward,
  planMlmHead,
} from "./mlm-head.ts";
import { type Parameters, planParameters } from "./parameters.ts";
import { loadWeights } from "./weights.ts";

const NO_DROPOUT = { seed: 0, step: 0, enabled: false };

/** A masked language model that fills gaps, on this thread. */
export class FillMask {
  readonly #config: EncoderConfig;
  readonly #kernels: Kernels;
  readonly #buffer: ArrayBufferLike;
  readonly #limits: BatchLimits;
  readonly #banned: ReadonlySet<number>;
  readonly #p: Parameters;
  readonly #batch: Batch;
  readonly #a: Activations;
  readonly #g: MlmHeadActivations;
  readonly #places: Tensor; // [MASKED_AT_ONCE] int32
  readonly #logits: Tensor; // [vocab]

  /**
   * `module` is the node binary, `tensors` those of a folder with the head of a masked language model, `file` their name in errors;
   * `banned` words are never guessed.
   * @throws FormatError naming a tensor that is absent or has another shape
   */
  constructor(
    module: WebAssembly.Module,
    config: EncoderConfig,
    tensors: ReadonlyMap<string, SafetensorsTensor>,
    file: string,
    maxLength: number,
    banned: ReadonlySet<number>,
  ) {
    const arena = new Arena();
    this.#config = config;
    this.#banned = banned;
    this.#limits = { tokens: maxLength, sequences: 1, maxLength };
    this.#p = planParameters(arena, config, false, { mlmHead: true });
    this.#batch = planBatch(arena, this.#limits);
    this.#a = planActivations(arena, config, this.#limits, "avg", 1);
    this.#g = planMlmHead(arena, config, 1);
    this.#places = arena.reserve("places", "I32", [MASKED_AT_ONCE]);
    this.#logits = arena.tensor("logits", config.vocabSize);
    const { pages } = arena;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.#buffer = memory.buffer;
    loadWeights(this.#buffer, this.#p.named, tensors, file);
    this.#kernels = instantiate<Kernels>(module, memory);
    this.#kernels.join(0, 1);
  }

  /**
   * The likeliest word for each place of a sequence, which has [MASK] there.
   * @throws RangeError as `writeBatch` does
   */
  fill(ids: ArrayLike<number>, places: readonly number[]): number[] {
    if (places.length === 0) return [];
    const k = this.#kernels;
    const [p, a, g] = [this.#p, this.#a, this.#g];
    const { hiddenSize: hidden, vocabSize: vocab } = this.#config;
    const { maxLength } = this.#limits;
    const tokens = writeBatch(this.#buffer, this.#batch, this.#limits, vocab, [ids]);
    const size = { tokens, sequences: 1 };
    const x = encoderForward(k, this.#config, p, a, this.#batch, size, maxLength, NO_DROPOUT);
    const { ptr } = this.#logits;
    const logits = new Float32Array(this.#buffer, ptr, vocab);
    return places.map((_, n) => {
      const i = n % MASKED_AT_ONCE;
      if (i === 0) {
        const some = places.slice(n, n + MASKED_AT_ONCE);
        new Int32Array(this.#buffer, this.#places.ptr, MASKED_AT_ONCE).set(some);
        mlmHeadForward(k, this.#config, p, g, x.ptr, this.#places.ptr, some.length);
      }
      k.innerProducts(ptr, p.table.ptr, g.y.ptr + 4 * i * hidden, vocab, hidden);
      // Tensors are padded to a cache line, so the last four may end behind the vocabulary.
      k.addForward(ptr, ptr, p.mlmHead!.wordBias.ptr, 4 * Math.ceil(vocab / 4));
      let best = -1;
      for (let word = 0; word < vocab; word++) {
        if (this.#banned.has(word)) continue;
        if (best < 0 || logits[word]! > logits[best]!) best = word;
      }
      return best;
    });
  }
}

/**
 * BERT's masked language model (Devlin et al. 2019): the last layer's vectors of masked tokens go through dense, GELU and layer
 * norm, and the word table, with a bias for each word, makes of them the logits of what stood there. Forward and backward in
 * one, a few hundred masked tokens at a time: their loss is a sum.
 */
import type { Arena, Tensor } from "../runtime/arena.ts";
import type { Pointer } from "../runtime/inference-kernels.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { crossEntropyScratch, layerNormScratch, linearScratch } from "../runtime/scratch.ts";
import { type EncoderConfig, geluForm } from "./config.ts";
import type { Parameters } from "./parameters.ts";

/** Tokens guessed at a time: enough for a product over the vocabulary, few enough for their logits to stay in the cache. */
export const MASKED_AT_ONCE = 256;

export interface MlmHeadActivations {
  readonly x: Tensor; // [MASKED_AT_ONCE, hidden], vectors of masked tokens
  readonly up: Tensor; // before GELU
  readonly active: Tensor; // after it
  readonly mean: Tensor;
  readonly rstd: Tensor;
  readonly y: Tensor; // after the layer norm
  readonly logSumExp: Tensor;
  readonly own: Tensor;
  readonly tops: Tensor;
  readonly dy: Tensor;
  readonly dx: Tensor;
  readonly scratch: Tensor;
}

export function planMlmHead(
  arena: Arena,
  { hiddenSize: hidden }: EncoderConfig,
  ranks: number,
): MlmHeadActivations {
  const plan = (name: string, ...cols: number[]): Tensor =>
    arena.tensor(`mlmHead.${name}`, MASKED_AT_ONCE, ...cols);
  return {
    x: plan("x", hidden),
    up: plan("up", hidden),
    active: plan("active", hidden),
    mean: plan("mean"),
    rstd: plan("rstd"),
    y: plan("y", hidden),
    logSumExp: plan("logSumExp"),
    own: plan("own"),
    tops: plan("tops"),
    dy: plan("dy", hidden),
    dx: plan("dx", hidden),
    scratch: arena.scratch(
      "mlmHead.scratch",
      Math.max(
        crossEntropyScratch(MASKED_AT_ONCE, hidden, ranks),
        linearScratch(MASKED_AT_ONCE, hidden, hidden, ranks),
        layerNormScratch(MASKED_AT_ONCE, hidden),
      ),
    ),
  };
}

/** Vectors `y` of masked tokens, whose inner products with those of words are logits but for the words' biases. */
export function mlmHeadForward(
  k: Kernels,
  config: EncoderConfig,
  p: Parameters,
  a: MlmHeadActivations,
  tokens: Pointer,
  places: Pointer,
  count: number,
): void {
  const { hiddenSize: hidden, layerNormEpsilon: epsilon } = config;
  const w = p.mlmHead!;
  // prettier-ignore
  {
    k.embeddingForward(a.x.ptr, places, 0, tokens, 0, 0, count, hidden); // gathers
    k.linearForward(a.up.ptr, a.active.ptr, a.x.ptr, w.weight.ptr, w.bias.ptr, 0, count, hidden, hidden, geluForm(config), a.scratch.ptr);
    k.layerNormForward(a.y.ptr, a.mean.ptr, a.rstd.ptr, a.active.ptr, w.gamma.ptr, w.beta.ptr, count, hidden, epsilon);
  }
}

/** Tokens to guess: their rows among the tokens of the batch, and what stood there. */
export interface MaskedTokens {
  readonly places: Pointer; // [count] int32
  readonly labels: Pointer; // [count] int32
  readonly count: number; // at most MASKED_AT_ONCE
}

/**
 * Writes to `loss` [2] the mean cross-entropy and the share that was right. Adds its gradient, times `scale`, to the parameter
 * gradients `g` and to that of the token vectors `x` [tokens, hidden], in `dTokens`.
 */
export function mlmHeadStep(
  k: Kernels,
  config: EncoderConfig,
  p: Parameters,
  g: Parameters,
  a: MlmHeadActivations,
  loss: Pointer,
  dTokens: Pointer,
  tokens: Pointer,
  { places, labels, count }: MaskedTokens,
  scale: number,
): void {
  const { hiddenSize: hidden, vocabSize: vocab } = config;
  const gelu = geluForm(config);
  const w = p.mlmHead!;
  const d = g.mlmHead!;
  const scratch = a.scratch.ptr;
  mlmHeadForward(k, config, p, a, tokens, places, count);
  // prettier-ignore
  {
    k.crossEntropyForward(loss, a.logSumExp.ptr, a.own.ptr, a.tops.ptr, a.y.ptr, p.table.ptr, w.wordBias.ptr, labels, count, hidden, vocab, scratch);

    k.crossEntropyBackward(a.dy.ptr, g.table.ptr, d.wordBias.ptr, a.y.ptr, p.table.ptr, w.wordBias.ptr, labels, a.logSumExp.ptr, count, hidden, vocab, scale, scratch);
    k.layerNormBackward(a.dx.ptr, d.gamma.ptr, d.beta.ptr, a.dy.ptr, a.active.ptr, w.gamma.ptr, a.mean.ptr, a.rstd.ptr, count, hidden, scratch);
    k.geluBackward(a.dx.ptr, a.dx.ptr, a.up.ptr, count * hidden, gelu);
    k.linearBackwardWeight(d.weight.ptr, d.bias.ptr, a.dx.ptr, a.x.ptr, count, hidden, hidden, scratch);
    k.linearBackwardInput(a.dy.ptr, a.dx.ptr, w.weight.ptr, count, hidden, hidden, 0, scratch);
    k.embeddingBackward(dTokens, 0, 0, a.dy.ptr, places, 0, count, hidden); // scatters
  }
}

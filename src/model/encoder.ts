/**
 * BERT's encoder with post-layer-norm residuals (Devlin et al. 2019), as a visible list of kernel calls: forward with
 * dropout, then its mirror image. Every rank of a team runs these functions over the same plan.
 */
import type { Arena, Tensor } from "../runtime/arena.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { attentionBackwardScratch, linearScratch } from "../runtime/scratch.ts";
import type { Batch, BatchLimits } from "./batch.ts";
import type { EncoderConfig, Pooling } from "./config.ts";
import type { Parameters } from "./parameters.ts";

/** How many of what this batch holds; the same on every rank. */
export interface BatchSize {
  readonly tokens: number;
  readonly sequences: number;
}

/** Which dropout bits a pass draws: a replay names the same seed and step. */
export interface DropoutKey {
  readonly seed: number;
  readonly step: number;
  /** False switches dropout off. */
  readonly enabled: boolean;
}

interface LayerActivations {
  readonly qkv: Tensor; // [tokens, 3 · hidden]
  readonly context: Tensor; // [tokens, hidden]
  readonly logSumExp: Tensor; // [heads, tokens]
  readonly attentionSum: Tensor; // before its layer norm
  readonly attentionMean: Tensor;
  readonly attentionRstd: Tensor;
  readonly attended: Tensor; // after it
  readonly up: Tensor; // [tokens, intermediate], before GELU
  readonly active: Tensor; // after it
  readonly outputSum: Tensor;
  readonly outputMean: Tensor;
  readonly outputRstd: Tensor;
  readonly output: Tensor; // [tokens, hidden]
}

/** What the forward pass keeps and the backward pass needs, and the scratch of both. */
export interface Activations {
  readonly embeddingSum: Tensor;
  readonly embeddingMean: Tensor;
  readonly embeddingRstd: Tensor;
  readonly embedded: Tensor; // after layer norm and dropout
  readonly layers: readonly LayerActivations[];
  readonly branch: Tensor; // [tokens, hidden], the residual branch before dropout
  readonly pooled: Tensor; // [sequences, hidden]
  readonly headed: Tensor; // [sequences, hidden], after the head's linear layer, then after tanh
  readonly dPooled: Tensor;
  readonly dHeaded: Tensor;
  readonly dOutput: Tensor; // [tokens, hidden], the gradient that travels down the residual stream
  readonly dSum: Tensor;
  readonly dContext: Tensor;
  readonly dQkv: Tensor;
  readonly dUp: Tensor;
  readonly scratch: Tensor;
}

export function planActivations(
  arena: Arena,
  config: EncoderConfig,
  { tokens, sequences, maxLength }: BatchLimits,
  ranks: number,
): Activations {
  const { hiddenSize: hidden, intermediateSize: intermediate, numHeads } = config;
  const rows = (name: string, cols: number): Tensor => arena.tensor(name, tokens, cols);
  const vectors = (name: string): Tensor => arena.tensor(name, sequences, hidden);
  const layers = Array.from({ length: config.numLayers }, (_, n) => ({
    qkv: rows(`layer.${n}.qkv`, 3 * hidden),
    context: rows(`layer.${n}.context`, hidden),
    logSumExp: arena.tensor(`layer.${n}.logSumExp`, numHeads, tokens),
    attentionSum: rows(`layer.${n}.attentionSum`, hidden),
    attentionMean: arena.tensor(`layer.${n}.attentionMean`, tokens),
    attentionRstd: arena.tensor(`layer.${n}.attentionRstd`, tokens),
    attended: rows(`layer.${n}.attended`, hidden),
    up: rows(`layer.${n}.up`, intermediate),
    active: rows(`layer.${n}.active`, intermediate),
    outputSum: rows(`layer.${n}.outputSum`, hidden),
    outputMean: arena.tensor(`layer.${n}.outputMean`, tokens),
    outputRstd: arena.tensor(`layer.${n}.outputRstd`, tokens),
    output: rows(`layer.${n}.output`, hidden),
  }));
  const scratch = Math.max(
    linearScratch(tokens, hidden, 3 * hidden, ranks),
    linearScratch(tokens, hidden, intermediate, ranks),
    linearScratch(tokens, intermediate, hidden, ranks),
    linearScratch(sequences, hidden, hidden, ranks),
    attentionBackwardScratch(maxLength, hidden / numHeads, ranks),
  );
  return {
    embeddingSum: rows("embeddingSum", hidden),
    embeddingMean: arena.tensor("embeddingMean", tokens),
    embeddingRstd: arena.tensor("embeddingRstd", tokens),
    embedded: rows("embedded", hidden),
    layers,
    branch: rows("branch", hidden),
    pooled: vectors("pooled"),
    headed: vectors("headed"),
    dPooled: vectors("dPooled"),
    dHeaded: vectors("dHeaded"),
    dOutput: rows("dOutput", hidden),
    dSum: rows("dSum", hidden),
    dContext: rows("dContext", hidden),
    dQkv: rows("dQkv", 3 * hidden),
    dUp: rows("dUp", intermediate),
    scratch: arena.scratch("scratch", scratch),
  };
}

/** A place where dropout acts; no two of them share bits. */
const EMBEDDING_SITE = 0;
const attentionSite = (layer: number): number => 3 * layer + 1;
const attendedSite = (layer: number): number => 3 * layer + 2;
const outputSite = (layer: number): number => 3 * layer + 3;

/** Token vectors of the last layer. */
export function encoderForward(
  k: Kernels,
  config: EncoderConfig,
  p: Parameters,
  a: Activations,
  batch: Batch,
  { tokens, sequences }: BatchSize,
  maxLength: number,
  { seed, step, enabled }: DropoutKey,
): Tensor {
  const {
    hiddenSize: hidden,
    intermediateSize: inner,
    numHeads: heads,
    layerNormEpsilon: epsilon,
  } = config;
  const hiddenRate = enabled ? config.hiddenDropout : 0;
  const attentionRate = enabled ? config.attentionDropout : 0;
  const headDim = hidden / heads;
  const scratch = a.scratch.ptr;

  // prettier-ignore
  {
    k.embeddingForward(a.embeddingSum.ptr, batch.tokenIds.ptr, batch.positions.ptr, p.words.ptr, p.positions.ptr, p.types.ptr, tokens, hidden);
    k.layerNormForward(a.embedded.ptr, a.embeddingMean.ptr, a.embeddingRstd.ptr, a.embeddingSum.ptr, p.gamma.ptr, p.beta.ptr, tokens, hidden, epsilon);
    k.dropoutForward(a.embedded.ptr, a.embedded.ptr, 0, tokens, hidden, hiddenRate, seed, step, EMBEDDING_SITE);
  }
  let x = a.embedded;
  for (const [n, w] of p.layers.entries()) {
    const l = a.layers[n]!;
    // prettier-ignore
    {
      k.linearForward(l.qkv.ptr, x.ptr, w.qkvWeight.ptr, w.qkvBias.ptr, tokens, hidden, 3 * hidden, scratch);
      k.attentionForward(l.context.ptr, l.logSumExp.ptr, l.qkv.ptr, batch.offsets.ptr, sequences, maxLength, heads, headDim, attentionRate, seed, step, attentionSite(n), scratch);
      k.linearForward(a.branch.ptr, l.context.ptr, w.attentionWeight.ptr, w.attentionBias.ptr, tokens, hidden, hidden, scratch);
      k.dropoutForward(l.attentionSum.ptr, a.branch.ptr, x.ptr, tokens, hidden, hiddenRate, seed, step, attendedSite(n));
      k.layerNormForward(l.attended.ptr, l.attentionMean.ptr, l.attentionRstd.ptr, l.attentionSum.ptr, w.attentionGamma.ptr, w.attentionBeta.ptr, tokens, hidden, epsilon);

      k.linearForward(l.up.ptr, l.attended.ptr, w.upWeight.ptr, w.upBias.ptr, tokens, hidden, inner, scratch);
      k.geluForward(l.active.ptr, l.up.ptr, tokens * inner);
      k.linearForward(a.branch.ptr, l.active.ptr, w.downWeight.ptr, w.downBias.ptr, tokens, inner, hidden, scratch);
      k.dropoutForward(l.outputSum.ptr, a.branch.ptr, l.attended.ptr, tokens, hidden, hiddenRate, seed, step, outputSite(n));
      k.layerNormForward(l.output.ptr, l.outputMean.ptr, l.outputRstd.ptr, l.outputSum.ptr, w.outputGamma.ptr, w.outputBeta.ptr, tokens, hidden, epsilon);
    }
    x = l.output;
  }
  return x;
}

/** Adds to the parameter gradients `g`, from the gradient of the last layer's output in `a.dOutput`. */
export function encoderBackward(
  k: Kernels,
  config: EncoderConfig,
  p: Parameters,
  g: Parameters,
  a: Activations,
  batch: Batch,
  { tokens, sequences }: BatchSize,
  maxLength: number,
  { seed, step, enabled }: DropoutKey,
): void {
  const { hiddenSize: hidden, intermediateSize: inner, numHeads: heads } = config;
  const hiddenRate = enabled ? config.hiddenDropout : 0;
  const attentionRate = enabled ? config.attentionDropout : 0;
  const headDim = hidden / heads;
  const scratch = a.scratch.ptr;

  for (let n = config.numLayers - 1; n >= 0; n--) {
    const l = a.layers[n]!;
    const w = p.layers[n]!;
    const d = g.layers[n]!;
    const x = n > 0 ? a.layers[n - 1]!.output : a.embedded;
    // Two buffers take turns: the gradient of a sum stays as the residual's, its dropped copy goes through the branch.
    // prettier-ignore
    {
      k.layerNormBackward(a.dSum.ptr, d.outputGamma.ptr, d.outputBeta.ptr, a.dOutput.ptr, l.outputSum.ptr, w.outputGamma.ptr, l.outputMean.ptr, l.outputRstd.ptr, tokens, hidden);
      k.dropoutBackward(a.dOutput.ptr, a.dSum.ptr, tokens, hidden, hiddenRate, seed, step, outputSite(n));
      k.linearBackwardWeight(d.downWeight.ptr, d.downBias.ptr, a.dOutput.ptr, l.active.ptr, tokens, inner, hidden, scratch);
      k.linearBackwardInput(a.dUp.ptr, a.dOutput.ptr, w.downWeight.ptr, tokens, inner, hidden, 0, scratch);
      k.geluBackward(a.dUp.ptr, a.dUp.ptr, l.up.ptr, tokens * inner);
      k.linearBackwardWeight(d.upWeight.ptr, d.upBias.ptr, a.dUp.ptr, l.attended.ptr, tokens, hidden, inner, scratch);
      k.linearBackwardInput(a.dSum.ptr, a.dUp.ptr, w.upWeight.ptr, tokens, hidden, inner, 1, scratch);

      k.layerNormBackward(a.dOutput.ptr, d.attentionGamma.ptr, d.attentionBeta.ptr, a.dSum.ptr, l.attentionSum.ptr, w.attentionGamma.ptr, l.attentionMean.ptr, l.attentionRstd.ptr, tokens, hidden);
      k.dropoutBackward(a.dSum.ptr, a.dOutput.ptr, tokens, hidden, hiddenRate, seed, step, attendedSite(n));
      k.linearBackwardWeight(d.attentionWeight.ptr, d.attentionBias.ptr, a.dSum.ptr, l.context.ptr, tokens, hidden, hidden, scratch);
      k.linearBackwardInput(a.dContext.ptr, a.dSum.ptr, w.attentionWeight.ptr, tokens, hidden, hidden, 0, scratch);
      k.attentionBackward(a.dQkv.ptr, a.dContext.ptr, l.qkv.ptr, l.context.ptr, l.logSumExp.ptr, batch.offsets.ptr, sequences, maxLength, heads, headDim, attentionRate, seed, step, attentionSite(n), scratch);
      k.linearBackwardWeight(d.qkvWeight.ptr, d.qkvBias.ptr, a.dQkv.ptr, x.ptr, tokens, hidden, 3 * hidden, scratch);
      k.linearBackwardInput(a.dOutput.ptr, a.dQkv.ptr, w.qkvWeight.ptr, tokens, hidden, 3 * hidden, 1, scratch);
    }
  }
  // prettier-ignore
  {
    k.dropoutBackward(a.dOutput.ptr, a.dOutput.ptr, tokens, hidden, hiddenRate, seed, step, EMBEDDING_SITE);
    k.layerNormBackward(a.dSum.ptr, g.gamma.ptr, g.beta.ptr, a.dOutput.ptr, a.embeddingSum.ptr, p.gamma.ptr, a.embeddingMean.ptr, a.embeddingRstd.ptr, tokens, hidden);
    k.embeddingBackward(g.words.ptr, g.positions.ptr, g.types.ptr, a.dSum.ptr, batch.tokenIds.ptr, batch.positions.ptr, tokens, hidden);
  }
}

/** Sentence vectors [sequences, hidden] from token vectors. */
export function poolForward(
  k: Kernels,
  hidden: number,
  pooling: Pooling,
  p: Parameters,
  a: Activations,
  batch: Batch,
  tokenVectors: Tensor,
  sequences: number,
): Tensor {
  k.poolingForward(
    a.pooled.ptr,
    tokenVectors.ptr,
    batch.offsets.ptr,
    sequences,
    hidden,
    pooling === "avg" ? 1 : 0,
  );
  if (pooling !== "cls") return a.pooled;
  const head = p.head!;
  // prettier-ignore
  k.linearForward(a.headed.ptr, a.pooled.ptr, head.weight.ptr, head.bias.ptr, sequences, hidden, hidden, a.scratch.ptr);
  k.tanhForward(a.headed.ptr, a.headed.ptr, sequences * hidden);
  return a.headed;
}

/** From the gradient of the sentence vectors, in `a.dHeaded`, to that of the token vectors, in `a.dOutput`. */
export function poolBackward(
  k: Kernels,
  hidden: number,
  pooling: Pooling,
  p: Parameters,
  g: Parameters,
  a: Activations,
  batch: Batch,
  sequences: number,
): void {
  let dPooled = a.dHeaded;
  if (pooling === "cls") {
    const head = p.head!;
    const dHead = g.head!;
    dPooled = a.dPooled;
    // prettier-ignore
    {
      k.tanhBackward(a.dHeaded.ptr, a.dHeaded.ptr, a.headed.ptr, sequences * hidden);
      k.linearBackwardWeight(dHead.weight.ptr, dHead.bias.ptr, a.dHeaded.ptr, a.pooled.ptr, sequences, hidden, hidden, a.scratch.ptr);
      k.linearBackwardInput(dPooled.ptr, a.dHeaded.ptr, head.weight.ptr, sequences, hidden, hidden, 0, a.scratch.ptr);
    }
  }
  k.poolingBackward(
    a.dOutput.ptr,
    dPooled.ptr,
    batch.offsets.ptr,
    sequences,
    hidden,
    pooling === "avg" ? 1 : 0,
  );
}

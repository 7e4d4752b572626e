/**
 * BERT's encoder with post-layer-norm residuals (Devlin et al. 2019), as a visible list of kernel calls: forward with
 * dropout, then its mirror image. Every rank of a team runs these functions over the same plan.
 *
 * Where a sentence's vector is that of its first token, the last layer is computed for first tokens only: they ask, all
 * tokens answer with keys and values, and what follows attention has a row a sentence.
 */
import type { Arena, Tensor } from "../runtime/arena.ts";
import type { Pointer } from "../runtime/inference-kernels.ts";
import type { Kernels } from "../runtime/kernels.ts";
import {
  attentionBackwardScratch,
  dropoutScratch,
  layerNormScratch,
  linearScratch,
} from "../runtime/scratch.ts";
import type { Batch, BatchLimits } from "./batch.ts";
import { type EncoderConfig, geluForm, isOfFirsts, type Pooling, secondLayer } from "./config.ts";
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
  /** Of a chunk: its first token and sequence in the batch, whose bits do not depend on the cut; 0 by default. */
  readonly firstToken?: number;
  readonly firstSequence?: number;
}

/** Of a layer of first tokens, all but `qkv` have a row a sequence. */
interface LayerActivations {
  readonly queries: Tensor | undefined; // [sequences, hidden], where only first tokens ask
  readonly qkv: Tensor; // [tokens, 3 · hidden], or keys and values alone: [tokens, 2 · hidden]
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
  readonly firsts: Tensor; // [sequences, hidden], the first tokens that enter a layer of them
  readonly branch: Tensor; // [tokens, hidden], the residual branch before dropout
  readonly dOutput: Tensor; // [tokens, hidden], the gradient that travels down the residual stream
  readonly dSum: Tensor;
  readonly dContext: Tensor;
  readonly dQueries: Tensor; // [sequences, hidden], of a layer of first tokens
  readonly dQkv: Tensor;
  readonly dUp: Tensor;
  /** The layer that is averaged with the last one, -1 for the embeddings, and twice the gradient of its output; if there is one. */
  readonly second: { readonly layer: number; readonly dOutput: Tensor } | undefined;
  readonly scratch: Tensor;
}

export function planActivations(
  arena: Arena,
  config: EncoderConfig,
  { tokens, sequences, maxLength }: BatchLimits,
  pooling: Pooling,
  ranks: number,
): Activations {
  const { hiddenSize: hidden, intermediateSize: intermediate, numHeads } = config;
  const rows = (name: string, cols: number): Tensor => arena.tensor(name, tokens, cols);
  const layer = (name: string, firsts: boolean): LayerActivations => {
    const count = firsts ? sequences : tokens;
    const plan = (part: string, ...cols: number[]): Tensor =>
      arena.tensor(`${name}.${part}`, count, ...cols);
    return {
      queries: firsts ? plan("queries", hidden) : undefined,
      qkv: rows(`${name}.qkv`, (firsts ? 2 : 3) * hidden),
      context: plan("context", hidden),
      logSumExp: arena.tensor(`${name}.logSumExp`, numHeads, count),
      attentionSum: plan("attentionSum", hidden),
      attentionMean: plan("attentionMean"),
      attentionRstd: plan("attentionRstd"),
      attended: plan("attended", hidden),
      up: plan("up", intermediate),
      active: plan("active", intermediate),
      outputSum: plan("outputSum", hidden),
      outputMean: plan("outputMean"),
      outputRstd: plan("outputRstd"),
      output: plan("output", hidden),
    };
  };
  const firsts = isOfFirsts(pooling);
  const second = secondLayer(config, pooling);
  const layers = Array.from({ length: config.numLayers }, (_, n) =>
    layer(`layer.${n}`, firsts && n === config.numLayers - 1),
  );
  const scratch = Math.max(
    linearScratch(tokens, hidden, 3 * hidden, ranks),
    linearScratch(tokens, hidden, intermediate, ranks),
    linearScratch(tokens, intermediate, hidden, ranks),
    linearScratch(sequences, hidden, hidden, ranks),
    attentionBackwardScratch(maxLength, hidden / numHeads, ranks),
    dropoutScratch(ranks),
    layerNormScratch(tokens, hidden),
  );
  return {
    embeddingSum: rows("embeddingSum", hidden),
    embeddingMean: arena.tensor("embeddingMean", tokens),
    embeddingRstd: arena.tensor("embeddingRstd", tokens),
    embedded: rows("embedded", hidden),
    layers,
    firsts: arena.tensor("firsts", firsts ? sequences : 0, hidden),
    branch: rows("branch", hidden),
    dOutput: rows("dOutput", hidden),
    dSum: rows("dSum", hidden),
    dContext: rows("dContext", hidden),
    dQueries: arena.tensor("dQueries", firsts ? sequences : 0, hidden),
    dQkv: rows("dQkv", 3 * hidden),
    dUp: rows("dUp", intermediate),
    second: second === undefined ? undefined : { layer: second, dOutput: rows("dSecond", hidden) },
    scratch: arena.scratch("scratch", scratch),
  };
}

/** A place where dropout acts; no two of them share bits. */
const EMBEDDING_SITE = 0;
const attentionSite = (layer: number): number => 3 * layer + 1;
const attendedSite = (layer: number): number => 3 * layer + 2;
const outputSite = (layer: number): number => 3 * layer + 3;

/** Modes of the pooling kernels. */
const FIRST = 0;
const MEAN = 1;

/** Address of row `i`. */
const row = ({ ptr, shape: [, cols = 1] }: Tensor, i: number): number => ptr + 4 * i * cols;

/** The output of a layer; that of -1 is the embeddings. */
const outputOf = ({ embedded, layers }: Activations, layer: number): Tensor =>
  layer < 0 ? embedded : layers[layer]!.output;

/** Token vectors of the last layer, or of its first tokens alone. */
export function encoderForward(
  k: Kernels,
  config: EncoderConfig,
  p: Parameters,
  a: Activations,
  batch: Batch,
  { tokens, sequences }: BatchSize,
  maxLength: number,
  { seed, step, enabled, firstToken = 0 }: DropoutKey,
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
  const gelu = geluForm(config);
  const scratch = a.scratch.ptr;

  k.dropoutOrigin(firstToken);
  // prettier-ignore
  {
    k.embeddingForward(a.embeddingSum.ptr, batch.tokenIds.ptr, batch.positions.ptr, p.table.ptr, p.positions.ptr, p.types.ptr, tokens, hidden);
    k.layerNormForward(a.embedded.ptr, a.embeddingMean.ptr, a.embeddingRstd.ptr, a.embeddingSum.ptr, p.gamma.ptr, p.beta.ptr, tokens, hidden, epsilon);
    k.dropoutForward(a.embedded.ptr, a.embedded.ptr, 0, 0, tokens, hidden, hiddenRate, seed, step, EMBEDDING_SITE, scratch);
  }
  let x = a.embedded;
  for (const [n, w] of p.layers.entries()) {
    const l = a.layers[n]!;
    // The rows that go on from here, and what they are called by dropout, which knows them by their tokens.
    const rows = l.queries ? sequences : tokens;
    const lines = l.queries ? batch.offsets.ptr : 0;
    const kv = l.queries ? hidden : 0; // the first output of the projection that all tokens need
    // prettier-ignore
    {
      k.linearForward(l.qkv.ptr, 0, x.ptr, row(w.qkvWeight, kv), row(w.qkvBias, kv), 0, tokens, hidden, 3 * hidden - kv, 0, scratch);
      if (l.queries) {
        k.poolingForward(a.firsts.ptr, x.ptr, batch.offsets.ptr, sequences, hidden, FIRST);
        x = a.firsts;
        k.linearForward(l.queries.ptr, 0, x.ptr, w.qkvWeight.ptr, w.qkvBias.ptr, 0, sequences, hidden, hidden, 0, scratch);
      }
      k.attentionForward(l.context.ptr, l.logSumExp.ptr, l.queries?.ptr ?? 0, l.qkv.ptr, batch.offsets.ptr, sequences, maxLength, heads, headDim, attentionRate, seed, step, attentionSite(n), scratch);
      k.linearForward(a.branch.ptr, 0, l.context.ptr, w.attentionWeight.ptr, w.attentionBias.ptr, 0, rows, hidden, hidden, 0, scratch);
      k.dropoutForward(l.attentionSum.ptr, a.branch.ptr, x.ptr, lines, rows, hidden, hiddenRate, seed, step, attendedSite(n), scratch);
      k.layerNormForward(l.attended.ptr, l.attentionMean.ptr, l.attentionRstd.ptr, l.attentionSum.ptr, w.attentionGamma.ptr, w.attentionBeta.ptr, rows, hidden, epsilon);

      k.linearForward(l.up.ptr, l.active.ptr, l.attended.ptr, w.upWeight.ptr, w.upBias.ptr, 0, rows, hidden, inner, gelu, scratch);
      k.linearForward(a.branch.ptr, 0, l.active.ptr, w.downWeight.ptr, w.downBias.ptr, 0, rows, inner, hidden, 0, scratch);
      k.dropoutForward(l.outputSum.ptr, a.branch.ptr, l.attended.ptr, lines, rows, hidden, hiddenRate, seed, step, outputSite(n), scratch);
      k.layerNormForward(l.output.ptr, l.outputMean.ptr, l.outputRstd.ptr, l.outputSum.ptr, w.outputGamma.ptr, w.outputBeta.ptr, rows, hidden, epsilon);
    }
    x = l.output;
  }
  return x;
}

/** Adds to the parameter gradients `g`, from the gradients that `poolBackward` left of the output of the last layer, and of a second. */
export function encoderBackward(
  k: Kernels,
  config: EncoderConfig,
  p: Parameters,
  g: Parameters,
  a: Activations,
  batch: Batch,
  { tokens, sequences }: BatchSize,
  maxLength: number,
  { seed, step, enabled, firstToken = 0 }: DropoutKey,
): void {
  const { hiddenSize: hidden, intermediateSize: inner, numHeads: heads } = config;
  const hiddenRate = enabled ? config.hiddenDropout : 0;
  const attentionRate = enabled ? config.attentionDropout : 0;
  const headDim = hidden / heads;
  const gelu = geluForm(config);
  const scratch = a.scratch.ptr;

  k.dropoutOrigin(firstToken);
  for (let n = config.numLayers - 1; n >= 0; n--) {
    const l = a.layers[n]!;
    const w = p.layers[n]!;
    const d = g.layers[n]!;
    const x = outputOf(a, n - 1);
    const rows = l.queries ? sequences : tokens;
    const lines = l.queries ? batch.offsets.ptr : 0;
    const kv = l.queries ? hidden : 0;
    // Two buffers take turns: the gradient of a sum stays as the residual's, its dropped copy goes through the branch.
    // prettier-ignore
    {
      k.layerNormBackward(a.dSum.ptr, d.outputGamma.ptr, d.outputBeta.ptr, a.dOutput.ptr, l.outputSum.ptr, w.outputGamma.ptr, l.outputMean.ptr, l.outputRstd.ptr, rows, hidden, scratch);
      k.dropoutBackward(a.dOutput.ptr, a.dSum.ptr, lines, rows, hidden, hiddenRate, seed, step, outputSite(n), scratch);
      k.linearBackwardWeight(d.downWeight.ptr, d.downBias.ptr, a.dOutput.ptr, l.active.ptr, rows, inner, hidden, scratch);
      k.linearBackwardInput(a.dUp.ptr, a.dOutput.ptr, w.downWeight.ptr, rows, inner, hidden, 0, scratch);
      k.geluBackward(a.dUp.ptr, a.dUp.ptr, l.up.ptr, rows * inner, gelu);
      k.linearBackwardWeight(d.upWeight.ptr, d.upBias.ptr, a.dUp.ptr, l.attended.ptr, rows, hidden, inner, scratch);
      k.linearBackwardInput(a.dSum.ptr, a.dUp.ptr, w.upWeight.ptr, rows, hidden, inner, 1, scratch);

      k.layerNormBackward(a.dOutput.ptr, d.attentionGamma.ptr, d.attentionBeta.ptr, a.dSum.ptr, l.attentionSum.ptr, w.attentionGamma.ptr, l.attentionMean.ptr, l.attentionRstd.ptr, rows, hidden, scratch);
      k.dropoutBackward(a.dSum.ptr, a.dOutput.ptr, lines, rows, hidden, hiddenRate, seed, step, attendedSite(n), scratch);
      k.linearBackwardWeight(d.attentionWeight.ptr, d.attentionBias.ptr, a.dSum.ptr, l.context.ptr, rows, hidden, hidden, scratch);
      k.linearBackwardInput(a.dContext.ptr, a.dSum.ptr, w.attentionWeight.ptr, rows, hidden, hidden, 0, scratch);
      k.attentionBackward(a.dQueries.ptr, a.dQkv.ptr, a.dContext.ptr, l.queries?.ptr ?? 0, l.qkv.ptr, l.context.ptr, l.logSumExp.ptr, batch.offsets.ptr, sequences, maxLength, heads, headDim, attentionRate, seed, step, attentionSite(n), scratch);
      if (l.queries) {
        k.linearBackwardWeight(d.qkvWeight.ptr, d.qkvBias.ptr, a.dQueries.ptr, a.firsts.ptr, sequences, hidden, hidden, scratch);
        k.linearBackwardInput(a.dOutput.ptr, a.dQueries.ptr, w.qkvWeight.ptr, sequences, hidden, hidden, 1, scratch);
        k.copyColumns(a.dSum.ptr, a.dOutput.ptr, sequences, hidden, hidden, hidden);
        k.poolingBackward(a.dOutput.ptr, a.dSum.ptr, batch.offsets.ptr, sequences, hidden, FIRST);
      }
      k.linearBackwardWeight(row(d.qkvWeight, kv), row(d.qkvBias, kv), a.dQkv.ptr, x.ptr, tokens, hidden, 3 * hidden - kv, scratch);
      k.linearBackwardInput(a.dOutput.ptr, a.dQkv.ptr, row(w.qkvWeight, kv), tokens, hidden, 3 * hidden - kv, 1, scratch);
      if (a.second?.layer === n - 1) k.addColumns(a.dOutput.ptr, a.second.dOutput.ptr, tokens, hidden, hidden, hidden, 0.5);
    }
  }
  // prettier-ignore
  {
    k.dropoutBackward(a.dOutput.ptr, a.dOutput.ptr, 0, tokens, hidden, hiddenRate, seed, step, EMBEDDING_SITE, scratch);
    k.layerNormBackward(a.dSum.ptr, g.gamma.ptr, g.beta.ptr, a.dOutput.ptr, a.embeddingSum.ptr, p.gamma.ptr, a.embeddingMean.ptr, a.embeddingRstd.ptr, tokens, hidden, scratch);
    k.embeddingBackward(g.table.ptr, g.positions.ptr, g.types.ptr, a.dSum.ptr, batch.tokenIds.ptr, batch.positions.ptr, tokens, hidden);
  }
}

/** Sentence vectors `y` [sequences, hidden] from the vectors `x` that `encoderForward` returned, and from what it kept. */
export function poolForward(
  k: Kernels,
  hidden: number,
  pooling: Pooling,
  p: Parameters,
  a: Activations,
  batch: Batch,
  y: Pointer,
  x: Tensor,
  { tokens, sequences }: BatchSize,
): void {
  // prettier-ignore
  if (pooling === "cls") {
    k.linearForward(y, 0, x.ptr, p.head!.weight.ptr, p.head!.bias.ptr, 0, sequences, hidden, hidden, 0, a.scratch.ptr);
    k.tanhForward(y, y, sequences * hidden);
  } else if (isOfFirsts(pooling)) {
    k.copyColumns(y, x.ptr, sequences, hidden, hidden, hidden);
  } else {
    if (a.second) k.averageForward(a.branch.ptr, x.ptr, outputOf(a, a.second.layer).ptr, tokens * hidden);
    k.poolingForward(y, a.second ? a.branch.ptr : x.ptr, batch.offsets.ptr, sequences, hidden, MEAN);
  }
}

/**
 * From the gradient `dy` of the sentence vectors `y`, which it overwrites, to that of the encoder's output, in `a.dOutput`, and of
 * a second layer's, in `a.second`.
 */
export function poolBackward(
  k: Kernels,
  hidden: number,
  pooling: Pooling,
  p: Parameters,
  g: Parameters,
  a: Activations,
  batch: Batch,
  dy: Pointer,
  y: Pointer,
  { tokens, sequences }: BatchSize,
): void {
  const { dOutput, second } = a;
  const x = a.layers.at(-1)!.output;
  // prettier-ignore
  if (pooling === "cls") {
    k.tanhBackward(dy, dy, y, sequences * hidden);
    k.linearBackwardWeight(g.head!.weight.ptr, g.head!.bias.ptr, dy, x.ptr, sequences, hidden, hidden, a.scratch.ptr);
    k.linearBackwardInput(dOutput.ptr, dy, p.head!.weight.ptr, sequences, hidden, hidden, 0, a.scratch.ptr);
  } else if (isOfFirsts(pooling)) {
    k.copyColumns(dOutput.ptr, dy, sequences, hidden, hidden, hidden);
  } else if (second) {
    k.poolingBackward(second.dOutput.ptr, dy, batch.offsets.ptr, sequences, hidden, MEAN);
    k.zero(dOutput.ptr, 4 * tokens * hidden);
    k.addColumns(dOutput.ptr, second.dOutput.ptr, tokens, hidden, hidden, hidden, 0.5);
  } else {
    k.poolingBackward(dOutput.ptr, dy, batch.offsets.ptr, sequences, hidden, MEAN);
  }
}

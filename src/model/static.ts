/**
 * A static model in training: a vector and a weight for each token, and their mean for a sentence. No layer sees the order
 * of the tokens, so a step costs little more than its loss.
 */
import type { Arena, Tensor } from "../runtime/arena.ts";
import type { Pointer } from "../runtime/inference-kernels.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { linearScratch } from "../runtime/scratch.ts";
import type { Batch } from "./batch.ts";
import type { EncoderConfig } from "./config.ts";
import type { BatchSize, DropoutKey } from "./encoder.ts";
import type { ParameterSet } from "./parameters.ts";

export interface StaticParameters extends ParameterSet {
  readonly weights: Tensor; // [vocab]
  /** A layer on the mean, where there is one: y = tanh(x Wᵀ + b), or without tanh. */
  readonly dense: { readonly weight: Tensor; readonly bias: Tensor } | undefined;
}

/** The layer on the mean. */
export interface StaticDense {
  readonly outputs: number;
  readonly tanh: boolean;
}

/** Lays out the parameters, under model2vec's names, the layer's under ours; `rows` are those of the table. */
export function planStatic(
  arena: Arena,
  { vocabSize, hiddenSize }: EncoderConfig,
  rows: number,
  { prefix = "", dense }: { prefix?: string; dense?: StaticDense | undefined } = {},
): StaticParameters {
  const plan = (name: string, ...shape: number[]): Tensor => ({
    ...arena.tensor(prefix + name, ...shape),
    name,
  });
  const table = plan("embeddings", rows, hiddenSize);
  const start = arena.top;
  const weight = dense && plan("modules.0.linear.weight", dense.outputs, hiddenSize);
  const middle = arena.top;
  const weights = plan("weights", vocabSize);
  const bias = dense && plan("modules.0.linear.bias", dense.outputs);
  return {
    named: [table, weights, ...(weight && bias ? [weight, bias] : [])],
    table,
    weights,
    dense: weight && bias && { weight, bias },
    decayed: { ptr: start, count: (middle - start) / 4 },
    plain: { ptr: middle, count: (arena.top - middle) / 4 },
  };
}

/** Where the mean has its dropout. */
const SITE = 0;

/** Sentence vectors `y` [sequences, hidden]; `mapping` [vocab] int32 is the row of each token, `scratch` that of dropout. */
export function staticForward(
  k: Kernels,
  { hiddenSize: hidden, hiddenDropout }: EncoderConfig,
  p: StaticParameters,
  mapping: Tensor,
  batch: Batch,
  scratch: Tensor,
  y: Pointer,
  { sequences }: BatchSize,
  { seed, step, enabled, firstSequence = 0 }: DropoutKey,
): void {
  const rate = enabled ? hiddenDropout : 0;
  // prettier-ignore
  k.staticMeanForward(y, batch.tokenIds.ptr, batch.offsets.ptr, p.table.ptr, mapping.ptr, p.weights.ptr, sequences, hidden);
  k.dropoutOrigin(firstSequence);
  if (rate > 0)
    k.dropoutForward(y, y, 0, 0, sequences, hidden, rate, seed, step, SITE, scratch.ptr);
}

/** Adds to the gradients `g`, from the gradient `dy` of the sentence vectors; `dots` [tokens] and `scratch` are scratch. */
export function staticBackward(
  k: Kernels,
  { hiddenSize: hidden, hiddenDropout }: EncoderConfig,
  p: StaticParameters,
  g: StaticParameters,
  mapping: Tensor,
  batch: Batch,
  dots: Tensor,
  scratch: Tensor,
  dy: Pointer,
  { sequences }: BatchSize,
  { seed, step, enabled, firstSequence = 0 }: DropoutKey,
): void {
  const rate = enabled ? hiddenDropout : 0;
  k.dropoutOrigin(firstSequence);
  if (rate > 0)
    k.dropoutBackward(dy, dy, 0, sequences, hidden, rate, seed, step, SITE, scratch.ptr);
  // prettier-ignore
  k.staticMeanBackward(g.table.ptr, g.weights.ptr, dots.ptr, dy, batch.tokenIds.ptr, batch.offsets.ptr, p.table.ptr, mapping.ptr, p.weights.ptr, sequences, hidden);
}

/** The layer on the mean, with what its two passes need. */
export interface DenseLayer {
  readonly inputs: number;
  readonly outputs: number;
  readonly tanh: boolean;
  readonly means: Tensor; // [sequences, inputs]
  readonly dMeans: Tensor;
  readonly scratch: Tensor;
}

export function planDense(
  arena: Arena,
  sequences: number,
  inputs: number,
  { outputs, tanh }: StaticDense,
  ranks: number,
): DenseLayer {
  return {
    inputs,
    outputs,
    tanh,
    means: arena.tensor("means", sequences, inputs),
    dMeans: arena.tensor("dMeans", sequences, inputs),
    scratch: arena.scratch("dense.scratch", linearScratch(sequences, inputs, outputs, ranks)),
  };
}

/** Sentence vectors `y` [sequences, outputs] of the means. */
export function denseForward(
  k: Kernels,
  { inputs, outputs, tanh, means, scratch }: DenseLayer,
  { dense }: StaticParameters,
  y: Pointer,
  sequences: number,
): void {
  const { weight, bias } = dense!;
  // prettier-ignore
  k.linearForward(y, 0, means.ptr, weight.ptr, bias.ptr, 0, sequences, inputs, outputs, 0, scratch.ptr);
  if (tanh) k.tanhForward(y, y, sequences * outputs);
}

/** Adds to the gradients `g`, from the gradient `dy` of `y`, which is lost, and leaves that of the means. */
export function denseBackward(
  k: Kernels,
  { inputs, outputs, tanh, means, dMeans, scratch }: DenseLayer,
  p: StaticParameters,
  g: StaticParameters,
  dy: Pointer,
  y: Pointer,
  sequences: number,
): void {
  const [w, d] = [p.dense!, g.dense!];
  if (tanh) k.tanhBackward(dy, dy, y, sequences * outputs);
  // prettier-ignore
  {
    k.linearBackwardWeight(d.weight.ptr, d.bias.ptr, dy, means.ptr, sequences, inputs, outputs, scratch.ptr);
    k.linearBackwardInput(dMeans.ptr, dy, w.weight.ptr, sequences, inputs, outputs, 0, scratch.ptr);
  }
}
